-- Reference data, loaded from the files of canon/. The same for all tenants, changed by migrations only.
CREATE TABLE canon.release (
  version text PRIMARY KEY,
  seal    text NOT NULL
);

CREATE TABLE canon.rules (
  name  text PRIMARY KEY,
  value jsonb NOT NULL
);

CREATE TABLE canon.aggregates (
  aggregate_type text PRIMARY KEY,
  table_name     text NOT NULL,
  statuses       text[] NOT NULL,
  terminal       text[] NOT NULL
);

CREATE TABLE canon.event_types (
  event_type     text NOT NULL,
  event_version  smallint NOT NULL,
  is_current     boolean NOT NULL,
  aggregate_type text NOT NULL REFERENCES canon.aggregates,
  to_status      text NOT NULL,
  writer         text NOT NULL CHECK (writer IN ('service', 'worker', 'operator')),
  stamps         text,
  counts         text,
  clears         jsonb NOT NULL,
  required_keys  text[] NOT NULL,
  creating_keys  text[],
  data_schema    jsonb NOT NULL,
  PRIMARY KEY (event_type, event_version)
);
COMMENT ON COLUMN canon.event_types.is_current IS 'whether it is the version written today; the others are read through upcasters';
COMMENT ON COLUMN canon.event_types.creating_keys IS 'keys that a first event needs; NULL when the type cannot be first';

CREATE TABLE canon.upcasters (
  event_type    text NOT NULL,
  from_version  smallint NOT NULL,
  function_name text NOT NULL,
  PRIMARY KEY (event_type, from_version),
  FOREIGN KEY (event_type, from_version) REFERENCES canon.event_types
);
COMMENT ON COLUMN canon.upcasters.function_name IS 'a function of schema persistence, jsonb to jsonb: data of from_version become data of the next';

CREATE TABLE canon.state_transitions (
  aggregate_type text NOT NULL REFERENCES canon.aggregates,
  event_type     text NOT NULL,
  from_status    text NOT NULL,
  to_status      text NOT NULL,
  PRIMARY KEY (aggregate_type, event_type, from_status)
);
COMMENT ON COLUMN canon.state_transitions.from_status IS 'the status left; `new` before the aggregate exists';

CREATE TABLE canon.tables (
  table_name  text PRIMARY KEY,
  primary_key text[] NOT NULL,
  grows       boolean NOT NULL
);

CREATE TABLE canon.table_columns (
  table_name  text NOT NULL REFERENCES canon.tables,
  column_name text NOT NULL,
  type        text NOT NULL,
  is_not_null boolean NOT NULL,
  is_identity boolean NOT NULL,
  PRIMARY KEY (table_name, column_name)
);

CREATE TABLE canon.table_keys (
  table_name text NOT NULL REFERENCES canon.tables,
  key_name   text NOT NULL,
  kind       text NOT NULL CHECK (kind IN ('unique', 'foreign key', 'index')),
  columns    text[] NOT NULL,
  refers_to  text,
  on_delete  text,
  predicate  text,
  method     text NOT NULL,
  PRIMARY KEY (table_name, key_name)
);

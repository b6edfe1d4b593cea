-- Reference data, loaded from the files of canon/. The same for all tenants, changed by migrations only.
CREATE TABLE canon.aggregates (
  aggregate_type text PRIMARY KEY,
  table_name     text NOT NULL,
  statuses       text[] NOT NULL,
  terminal       text[] NOT NULL
);

CREATE TABLE canon.event_types (
  event_type     text NOT NULL,
  event_version  smallint NOT NULL,
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

CREATE TABLE canon.state_transitions (
  aggregate_type text NOT NULL REFERENCES canon.aggregates,
  event_type     text NOT NULL,
  from_status    text NOT NULL,
  to_status      text NOT NULL,
  PRIMARY KEY (aggregate_type, event_type, from_status)
);
COMMENT ON COLUMN canon.state_transitions.from_status IS 'the status left; `new` before the aggregate exists';
COMMENT ON COLUMN canon.event_types.creating_keys IS 'keys that a first event needs; NULL when the type cannot be first';

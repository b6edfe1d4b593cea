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
  terminal       text[] NOT NULL,
  open           text[] NOT NULL
);
COMMENT ON COLUMN canon.aggregates.open IS 'statuses in which its own work is under way';

CREATE TABLE canon.part_of (
  aggregate_type text NOT NULL REFERENCES canon.aggregates,
  column_name    text NOT NULL,
  whole_type     text NOT NULL REFERENCES canon.aggregates,
  statuses       text[] NOT NULL,
  PRIMARY KEY (aggregate_type, column_name)
);
COMMENT ON COLUMN canon.part_of.statuses IS 'those of the whole in which a part begins, or goes on after a pause';

CREATE TABLE canon.event_types (
  event_type     text NOT NULL,
  event_version  smallint NOT NULL,
  is_current     boolean NOT NULL,
  aggregate_type text NOT NULL REFERENCES canon.aggregates,
  from_statuses  text[] NOT NULL,
  to_status      text NOT NULL,
  writer         text NOT NULL CHECK (writer IN ('service', 'worker', 'operator', 'plane')),
  stamps         text,
  counts         text,
  clears         jsonb NOT NULL,
  required_keys  text[] NOT NULL,
  creating_keys  text[],
  known_keys     text[] NOT NULL,
  later_keys     text[] NOT NULL,
  field_rules    jsonb NOT NULL,
  data_rule      jsonpath NOT NULL,
  may_begin      boolean NOT NULL,
  ends           boolean NOT NULL,
  cancels        boolean NOT NULL,
  data_schema    jsonb NOT NULL,
  PRIMARY KEY (event_type, event_version)
) WITH (toast_tuple_target = 8160);  -- read for each event: not compressed
COMMENT ON COLUMN canon.event_types.is_current IS 'whether it is the version written today; the others are read through upcasters';
COMMENT ON COLUMN canon.event_types.from_statuses IS 'what canon.state_transitions lets it leave; an entry of the outbox moves with its effect';
COMMENT ON COLUMN canon.event_types.creating_keys IS 'keys that a first event needs; NULL when the type cannot be first';

COMMENT ON COLUMN canon.event_types.later_keys IS 'keys that its data may have when it is not the first event; known_keys: when it is';
COMMENT ON COLUMN canon.event_types.field_rules IS 'by key, the predicate of the data that its schema makes; data_rule: all of them';
COMMENT ON COLUMN canon.event_types.may_begin IS 'whether it needs no cause when it is first';
COMMENT ON COLUMN canon.event_types.ends IS 'whether it ends what may have parts; cancels: and its open parts with it';

-- What one event and one batch may hold, in bytes as the database keeps them. An administrator may change it, as persistence_owner.
CREATE TABLE canon.size_limits (
  is_only      boolean PRIMARY KEY DEFAULT true CHECK (is_only),
  event_bytes  integer NOT NULL DEFAULT 1048576 CHECK (event_bytes BETWEEN 1024 AND 67108864),
  batch_events integer NOT NULL DEFAULT 10000 CHECK (batch_events BETWEEN 1 AND 100000),
  batch_bytes  integer NOT NULL DEFAULT 67108864 CHECK (batch_bytes BETWEEN 1024 AND 209715200),
  one_by_one   integer NOT NULL DEFAULT 3 CHECK (one_by_one BETWEEN 0 AND 100)
);
COMMENT ON COLUMN canon.size_limits.one_by_one IS 'batches of so many events go event by event, which is faster for a few; it makes no other difference';
INSERT INTO canon.size_limits DEFAULT VALUES;

-- What is this installation's own, and for its functions alone: services cannot read it. lock_salt: see plane_lock. service_user: see service_user().
CREATE TABLE canon.installation (
  is_only      boolean PRIMARY KEY DEFAULT true CHECK (is_only),
  lock_salt    uuid NOT NULL DEFAULT gen_random_uuid(),
  service_user uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO canon.installation DEFAULT VALUES;

-- Keys of those who may enter tenants, as HMAC-SHA256 pads them: see is_proven. While there is none, membership is enough.
CREATE TABLE canon.context_keys (
  inner_pad bytea NOT NULL CHECK (length(inner_pad) = 64),
  outer_pad bytea NOT NULL CHECK (length(outer_pad) = 64),
  added_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (inner_pad)
);

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
  grows       boolean NOT NULL,
  is_kept     boolean NOT NULL
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

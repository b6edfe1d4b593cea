-- The log: every change of state, once, for ever. Appended by functions only; see append_only.v1.sql.
CREATE TABLE persistence.orchestration_events (
  tenant_id         uuid NOT NULL,
  id                uuid NOT NULL,
  sequence_number   bigint GENERATED ALWAYS AS IDENTITY,
  transaction_id    xid8 NOT NULL DEFAULT pg_current_xact_id(),
  aggregate_id      uuid NOT NULL,
  correlation_id    uuid NOT NULL,
  causation_id      uuid,
  occurred_at       timestamptz NOT NULL,
  created_at        timestamptz NOT NULL DEFAULT now(),
  updated_at        timestamptz NOT NULL DEFAULT now(),
  aggregate_version integer NOT NULL CHECK (aggregate_version > 0),
  event_version     smallint NOT NULL,
  aggregate_type    text NOT NULL,
  event_type        text NOT NULL,
  actor             varchar(100) NOT NULL CHECK (actor LIKE ANY ('{agent:_%,user:_%,system:_%,external:_%}')),
  source            varchar(200) NOT NULL,
  event_data        jsonb NOT NULL,
  digest            bytea NOT NULL,
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT orchestration_events_aggregate_version_key UNIQUE (tenant_id, aggregate_id, aggregate_version)
);
CREATE INDEX orchestration_events_correlation_idx
  ON persistence.orchestration_events (tenant_id, correlation_id, sequence_number);
-- Gates that look at what is new find it without reading the rest: the log grows in the order of time.
CREATE INDEX orchestration_events_created_idx ON persistence.orchestration_events USING brin (created_at);
-- Readers of the log go by (transaction_id, sequence_number).
CREATE INDEX orchestration_events_log_idx
  ON persistence.orchestration_events (tenant_id, transaction_id, sequence_number);

-- What came in from outside, once for each (source_channel, source_id). signal_key: for runs of flows that wait for a signal of this type and key.
CREATE TABLE persistence.signals (
  tenant_id      uuid NOT NULL,
  id             uuid NOT NULL,
  source_channel varchar(200) NOT NULL,
  source_id      varchar(500) NOT NULL,
  signal_type    varchar(200) NOT NULL,
  signal_key     varchar(300),
  status         text NOT NULL,
  payload        jsonb,
  error_details  jsonb,
  retry_count    integer NOT NULL DEFAULT 0,
  received_at    timestamptz NOT NULL,
  processed_at   timestamptz,
  correlation_id uuid NOT NULL,
  causation_id   uuid,
  actor          varchar(100) NOT NULL,
  version        integer NOT NULL,
  last_event_id  uuid NOT NULL,
  created_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT signals_source_key UNIQUE (tenant_id, source_channel, source_id)
) WITH (fillfactor = 80);
CREATE INDEX signals_correlation_idx ON persistence.signals (tenant_id, correlation_id);
CREATE INDEX signals_key_idx ON persistence.signals (tenant_id, signal_type, signal_key, id) WHERE signal_key IS NOT NULL;

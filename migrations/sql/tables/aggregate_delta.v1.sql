-- What a batch of events does to one aggregate: see batch_deltas.
CREATE TYPE persistence.aggregate_delta AS (
  tenant_id        uuid,
  aggregate_type   text,
  id               uuid,
  first_version    integer,
  first_number     bigint,
  version          integer,
  first_event_type text,
  from_statuses    text[],
  status           text,
  retries          integer,
  correlation_id   uuid,
  causation_id     uuid,
  actor            varchar(100),
  last_event_id    uuid,
  created_at       timestamptz,
  updated_at       timestamptz,
  doc              jsonb
);

-- The record of each effect on its way out: what the trace reads. Status is not indexed, so that its updates stay heap-only;
-- the list of work is outbox_queue. There is no foreign key to effects: the two are written by the same functions, and gates compare them.
-- blocks_key: whether, as a dead letter, it lets nothing of its ordering key past.
-- traceparent: where the request stands in a distributed trace (W3C Trace Context).
CREATE TABLE persistence.outbox_events (
  tenant_id       uuid NOT NULL,
  id              uuid NOT NULL,
  aggregate_type  text NOT NULL DEFAULT 'EFFECT' CHECK (aggregate_type = 'EFFECT'),
  aggregate_id    uuid NOT NULL,
  event_type      text NOT NULL,
  idempotency_key text NOT NULL,
  status          text NOT NULL,
  retry_count     integer NOT NULL DEFAULT 0,
  next_retry_at   timestamptz,
  payload         jsonb NOT NULL,
  error_details   jsonb,
  published_at    timestamptz,
  priority        smallint NOT NULL DEFAULT 0,
  blocks_key      boolean,
  ordering_key    text,
  destination     text,
  traceparent     text,
  correlation_id uuid NOT NULL,
  causation_id   uuid,
  actor          varchar(100) NOT NULL,
  version        integer NOT NULL,
  last_event_id  uuid NOT NULL,
  created_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT outbox_events_idempotency_key UNIQUE (tenant_id, idempotency_key)
) WITH (fillfactor = 45);  -- the update that settles it stays on its page
CREATE INDEX outbox_events_aggregate_idx ON persistence.outbox_events (tenant_id, aggregate_id);
CREATE INDEX outbox_events_correlation_idx ON persistence.outbox_events (tenant_id, correlation_id);

-- Something to be done in the outside world, for a run or for a memory. Its outbox entry carries the same id.
-- cancel_requested_at: when it was cancelled while a worker held it. Executed all the same: it was delivered by then. is_awaited: whether its run waits for what
-- comes of it.
CREATE TABLE persistence.effects (
  tenant_id        uuid NOT NULL,
  id               uuid NOT NULL,
  run_id           uuid,
  step_id          uuid,
  memory_id        uuid,
  effect_type      varchar(200) NOT NULL,
  idempotency_key  varchar(300) NOT NULL,
  status           text NOT NULL,
  retry_count      integer NOT NULL DEFAULT 0,
  next_retry_at    timestamptz,
  effect_spec      jsonb NOT NULL,
  execution_result jsonb,
  error_details    jsonb,
  executed_at      timestamptz,
  cancel_requested_at timestamptz,
  is_awaited       boolean,
  correlation_id uuid NOT NULL,
  causation_id   uuid,
  actor          varchar(100) NOT NULL,
  version        integer NOT NULL,
  last_event_id  uuid NOT NULL,
  created_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT effects_run_fkey FOREIGN KEY (tenant_id, run_id) REFERENCES persistence.runs,
  CONSTRAINT effects_step_fkey FOREIGN KEY (tenant_id, step_id) REFERENCES persistence.steps,
  CONSTRAINT effects_memory_fkey FOREIGN KEY (tenant_id, memory_id) REFERENCES persistence.memories,
  CONSTRAINT effects_origin_check CHECK (num_nonnulls(run_id, memory_id) = 1 AND (step_id IS NULL OR run_id IS NOT NULL))
) WITH (fillfactor = 45);  -- the update that settles it stays on its page
CREATE INDEX effects_run_idx ON persistence.effects (tenant_id, run_id);
CREATE INDEX effects_step_idx ON persistence.effects (tenant_id, step_id) WHERE step_id IS NOT NULL;
CREATE INDEX effects_memory_idx ON persistence.effects (tenant_id, memory_id) WHERE memory_id IS NOT NULL;

-- A run's state at a moment, to resume from. The log keeps digest and size only; state is NULL once discarded.
CREATE TABLE persistence.run_checkpoints (
  tenant_id      uuid NOT NULL,
  id             uuid NOT NULL,
  run_id         uuid NOT NULL,
  step_id        uuid,
  label          varchar(200),
  status         text NOT NULL,
  digest         text NOT NULL,
  size_bytes     bigint NOT NULL,
  state          json,
  restored_at    timestamptz,
  correlation_id uuid NOT NULL,
  causation_id   uuid,
  actor          varchar(100) NOT NULL,
  version        integer NOT NULL,
  last_event_id  uuid NOT NULL,
  created_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT run_checkpoints_run_fkey FOREIGN KEY (tenant_id, run_id) REFERENCES persistence.runs,
  CONSTRAINT run_checkpoints_step_fkey FOREIGN KEY (tenant_id, step_id) REFERENCES persistence.steps
);
CREATE INDEX run_checkpoints_run_idx ON persistence.run_checkpoints (tenant_id, run_id, created_at);
CREATE INDEX run_checkpoints_label_idx ON persistence.run_checkpoints (tenant_id, run_id, label) WHERE label IS NOT NULL;
CREATE INDEX run_checkpoints_step_idx ON persistence.run_checkpoints (tenant_id, step_id) WHERE step_id IS NOT NULL;

-- One piece of work in a run. step_index orders the steps of a run; two writers at the same moment may share one.
CREATE TABLE persistence.steps (
  tenant_id      uuid NOT NULL,
  id             uuid NOT NULL,
  run_id         uuid NOT NULL,
  step_index     integer NOT NULL,
  step_type      varchar(200) NOT NULL,
  status         text NOT NULL,
  input_data     jsonb,
  output_result  jsonb,
  error_details  jsonb,
  wait_reason    varchar(1000),
  retry_count    integer NOT NULL DEFAULT 0,
  started_at     timestamptz,
  completed_at   timestamptz,
  correlation_id uuid NOT NULL,
  causation_id   uuid,
  actor          varchar(100) NOT NULL,
  version        integer NOT NULL,
  last_event_id  uuid NOT NULL,
  created_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT steps_run_fkey FOREIGN KEY (tenant_id, run_id) REFERENCES persistence.runs
) WITH (fillfactor = 80);
CREATE INDEX steps_run_idx ON persistence.steps (tenant_id, run_id, step_index);

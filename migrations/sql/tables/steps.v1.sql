-- One piece of work in a run. step_index orders the steps of a run; two writers at the same moment may share one. In a run of a flow, position is its place in
-- the flow ("3", or "3.0.2": the third of the first branch of what is at 3); what waits does so until wait_until, or for the signal of that type and key.
CREATE TABLE persistence.steps (
  tenant_id      uuid NOT NULL,
  id             uuid NOT NULL,
  run_id         uuid NOT NULL,
  step_index     integer NOT NULL,
  step_type      varchar(200) NOT NULL,
  position       varchar(200),
  status         text NOT NULL,
  input_data     jsonb,
  output_result  jsonb,
  error_details  jsonb,
  wait_reason    varchar(1000),
  wait_until     timestamptz,
  signal_type    varchar(200),
  signal_key     varchar(300),
  progress       jsonb,
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
-- What is waited for. No other step has these, so that no change of one touches an index.
CREATE INDEX steps_timer_idx ON persistence.steps (wait_until) WHERE wait_until IS NOT NULL;
CREATE INDEX steps_signal_idx ON persistence.steps (tenant_id, signal_type, signal_key) WHERE signal_key IS NOT NULL;

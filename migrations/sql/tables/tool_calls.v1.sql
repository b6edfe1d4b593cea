-- One call of a tool by a step.
CREATE TABLE persistence.tool_calls (
  tenant_id      uuid NOT NULL,
  id             uuid NOT NULL,
  run_id         uuid NOT NULL,
  step_id        uuid NOT NULL,
  tool_name      varchar(200) NOT NULL,
  status         text NOT NULL,
  tool_args      jsonb,
  tool_result    jsonb,
  error_details  jsonb,
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
  CONSTRAINT tool_calls_run_fkey FOREIGN KEY (tenant_id, run_id) REFERENCES persistence.runs,
  CONSTRAINT tool_calls_step_fkey FOREIGN KEY (tenant_id, step_id) REFERENCES persistence.steps
) WITH (fillfactor = 80);
CREATE INDEX tool_calls_step_idx ON persistence.tool_calls (tenant_id, step_id);
CREATE INDEX tool_calls_run_idx ON persistence.tool_calls (tenant_id, run_id);

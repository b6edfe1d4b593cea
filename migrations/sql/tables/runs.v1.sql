-- One execution of an orchestration, begun by a signal or by another run. Where flow_version is said, it is executed by those who have that flow (run_queue):
-- of one ordering_key one at a time, not before starts_at, what has the lower priority number first. flow_key: its caller's name for it.
CREATE TABLE persistence.runs (
  tenant_id      uuid NOT NULL,
  id             uuid NOT NULL,
  signal_id      uuid,
  parent_run_id  uuid,
  run_type       varchar(200) NOT NULL,
  status         text NOT NULL,
  flow_version   integer,
  flow_key       varchar(300),
  ordering_key   varchar(300),
  priority       smallint,
  starts_at      timestamptz,
  deadline       timestamptz,
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
  CONSTRAINT runs_signal_fkey FOREIGN KEY (tenant_id, signal_id) REFERENCES persistence.signals,
  CONSTRAINT runs_parent_run_fkey FOREIGN KEY (tenant_id, parent_run_id) REFERENCES persistence.runs
) WITH (fillfactor = 80);
CREATE INDEX runs_correlation_idx ON persistence.runs (tenant_id, correlation_id);
CREATE INDEX runs_signal_idx ON persistence.runs (tenant_id, signal_id);
CREATE INDEX runs_parent_run_idx ON persistence.runs (tenant_id, parent_run_id) WHERE parent_run_id IS NOT NULL;
-- Lists: the newest of a status, and of a type.
CREATE INDEX runs_status_idx ON persistence.runs (tenant_id, status, id);
CREATE INDEX runs_run_type_idx ON persistence.runs (tenant_id, run_type, id);

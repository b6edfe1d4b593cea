-- Who used which memories, and what for. memories: their ids.
CREATE TABLE persistence.memory_recalls (
  tenant_id      uuid NOT NULL,
  id             uuid NOT NULL,
  agent          varchar(200) NOT NULL,
  run_id         uuid,
  step_id        uuid,
  index_id       uuid,
  memories       jsonb NOT NULL,
  status         text NOT NULL,
  correlation_id uuid NOT NULL,
  causation_id   uuid,
  actor          varchar(100) NOT NULL,
  version        integer NOT NULL,
  last_event_id  uuid NOT NULL,
  created_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT memory_recalls_run_fkey FOREIGN KEY (tenant_id, run_id) REFERENCES persistence.runs,
  CONSTRAINT memory_recalls_step_fkey FOREIGN KEY (tenant_id, step_id) REFERENCES persistence.steps,
  CONSTRAINT memory_recalls_index_fkey FOREIGN KEY (tenant_id, index_id) REFERENCES persistence.memory_indexes,
  CONSTRAINT memory_recalls_memories_check CHECK (jsonb_array_length(memories) BETWEEN 1 AND 1000)
);
CREATE INDEX memory_recalls_memories_idx ON persistence.memory_recalls USING gin (memories);
CREATE INDEX memory_recalls_agent_idx ON persistence.memory_recalls (tenant_id, agent, id);
CREATE INDEX memory_recalls_correlation_idx ON persistence.memory_recalls (tenant_id, correlation_id);
CREATE INDEX memory_recalls_run_idx ON persistence.memory_recalls (tenant_id, run_id) WHERE run_id IS NOT NULL;
CREATE INDEX memory_recalls_step_idx ON persistence.memory_recalls (tenant_id, step_id) WHERE step_id IS NOT NULL;
CREATE INDEX memory_recalls_index_idx ON persistence.memory_recalls (tenant_id, index_id) WHERE index_id IS NOT NULL;

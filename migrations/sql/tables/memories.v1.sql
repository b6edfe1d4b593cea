-- What agents learned. content: the text; the log keeps its digest and size only; NULL, as words are, once forgotten.
-- valid_from, valid_until: when it holds; created_at, ended_at: from when to when it was what is known. is_embedded: false where no vectors are wanted.
CREATE TABLE persistence.memories (
  tenant_id      uuid NOT NULL,
  id             uuid NOT NULL,
  agent          varchar(200) NOT NULL,
  context        text NOT NULL,
  tags           jsonb,
  run_id         uuid,
  step_id        uuid,
  supersedes     uuid,
  superseded_by  uuid,
  importance     double precision,
  valid_from     timestamptz NOT NULL,
  valid_until    timestamptz,
  ended_at       timestamptz,
  is_embedded    boolean,
  digest         text NOT NULL,
  size_bytes     integer NOT NULL,
  content        text,
  words          tsvector,
  status         text NOT NULL,
  correlation_id uuid NOT NULL,
  causation_id   uuid,
  actor          varchar(100) NOT NULL,
  version        integer NOT NULL,
  last_event_id  uuid NOT NULL,
  created_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT memories_run_fkey FOREIGN KEY (tenant_id, run_id) REFERENCES persistence.runs,
  CONSTRAINT memories_step_fkey FOREIGN KEY (tenant_id, step_id) REFERENCES persistence.steps,
  CONSTRAINT memories_supersedes_fkey FOREIGN KEY (tenant_id, supersedes) REFERENCES persistence.memories,
  CONSTRAINT memories_tags_check CHECK (tags IS NULL OR jsonb_array_length(tags) <= 50),
  CONSTRAINT memories_valid_check CHECK (valid_until > valid_from)
);
CREATE INDEX memories_agent_idx ON persistence.memories (tenant_id, agent, id);
CREATE INDEX memories_correlation_idx ON persistence.memories (tenant_id, correlation_id);
CREATE INDEX memories_run_idx ON persistence.memories (tenant_id, run_id) WHERE run_id IS NOT NULL;
CREATE INDEX memories_step_idx ON persistence.memories (tenant_id, step_id) WHERE step_id IS NOT NULL;
CREATE INDEX memories_supersedes_idx ON persistence.memories (tenant_id, supersedes) WHERE supersedes IS NOT NULL;
CREATE INDEX memories_tags_idx ON persistence.memories USING gin (tags jsonb_path_ops);
CREATE INDEX memories_words_idx ON persistence.memories USING gin (words);

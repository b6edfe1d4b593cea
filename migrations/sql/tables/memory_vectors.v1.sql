-- Vectors of memories: made from their texts, and to be made again from them (persistence memory rebuild). Written by index_memories alone; gone as soon as the
-- memory is forgotten or the index retired. digest: of the text that it was made from. embedding: of length 1.
CREATE TABLE persistence.memory_vectors (
  tenant_id  uuid NOT NULL,
  id         uuid NOT NULL DEFAULT persistence.new_id(),
  index_id   uuid NOT NULL,
  memory_id  uuid NOT NULL,
  dimensions integer NOT NULL,
  digest     text NOT NULL,
  embedding  real[] NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT memory_vectors_memory_key UNIQUE (tenant_id, index_id, memory_id),
  CONSTRAINT memory_vectors_index_fkey FOREIGN KEY (tenant_id, index_id) REFERENCES persistence.memory_indexes,
  CONSTRAINT memory_vectors_memory_fkey FOREIGN KEY (tenant_id, memory_id) REFERENCES persistence.memories,
  CONSTRAINT memory_vectors_dimensions_check CHECK (cardinality(embedding) = dimensions)
);
ALTER TABLE persistence.memory_vectors ALTER COLUMN embedding SET STORAGE EXTERNAL;  -- they do not become smaller
CREATE INDEX memory_vectors_memory_idx ON persistence.memory_vectors (tenant_id, memory_id);

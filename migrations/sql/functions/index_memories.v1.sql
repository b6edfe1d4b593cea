-- Keeps vectors of memories in an index. Side by side, one element a memory: ids, and digests of the texts that they were made from; vectors: all numbers one
-- vector after the other, each of length 1. What was forgotten or never had that text is left out. Returns those that are
-- kept: by the ids of the memories, SHA-256 of the vector as PostgreSQL sends it (array_send).
-- Errors: PE003 for an index that is not there; PE008 for one that is retired, and for vectors that are none.
CREATE FUNCTION persistence.index_memories(
  tenant_id uuid, user_id uuid, index_id uuid, ids uuid[], digests text[], vectors real[], proof text DEFAULT NULL
) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  x memory_indexes;
  kept jsonb;
  wrong integer;
BEGIN
  PERFORM enter_tenant(index_memories.tenant_id, index_memories.user_id, index_memories.proof);
  SELECT i.* INTO x
  FROM memory_indexes AS i
  WHERE i.tenant_id = index_memories.tenant_id
    AND i.id = index_memories.index_id
  FOR SHARE;
  IF x.id IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE003',
      MESSAGE = format('there is no index %s of memories in this tenant', index_memories.index_id),
      HINT = 'persistence memory index lists them.';
  ELSIF x.status = 'RETIRED' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('index_id: index %s is retired', x.id),
      HINT = 'Begin another.';
  ELSIF cardinality(ids) <> cardinality(digests)
    OR cardinality(vectors) <> cardinality(ids) * x.dimensions
    OR array_position(ids, NULL) IS NOT NULL
    OR array_position(vectors, NULL) IS NOT NULL
  THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('vectors: %s numbers for %s memories of %s dimensions', cardinality(vectors), cardinality(ids), x.dimensions),
      HINT = 'One vector for each memory, with as many numbers as the index has dimensions.';
  END IF;
  SELECT g.n INTO wrong
  FROM (
    SELECT v.place, (v.place - 1) / x.dimensions + 1 AS n, v.number
    FROM unnest(vectors) WITH ORDINALITY AS v (number, place)
  ) AS g
  GROUP BY g.n
  HAVING (sum(g.number::double precision ^ 2) BETWEEN 0.99 AND 1.01) IS NOT TRUE
  LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('vectors: that of memory %s is not of length 1', ids[wrong]),
      HINT = 'Divide each vector by its length; one of zeros, or with what is no number, is none.';
  END IF;

  -- whoever forgets one of them waits, and then takes the vector away
  PERFORM
  FROM memories AS m
  WHERE m.tenant_id = index_memories.tenant_id
    AND m.id = ANY (ids)
  ORDER BY m.id
  FOR SHARE;
  WITH stored AS (
    INSERT INTO memory_vectors AS v (tenant_id, index_id, memory_id, dimensions, digest, embedding)
    SELECT DISTINCT ON (m.id)
      m.tenant_id, x.id, m.id, x.dimensions, m.digest, vectors[(g.n - 1) * x.dimensions + 1 : g.n * x.dimensions]
    FROM unnest(ids, digests) WITH ORDINALITY AS g (memory_id, digest, n)
    JOIN memories AS m ON m.tenant_id = index_memories.tenant_id AND m.id = g.memory_id AND m.digest = g.digest AND m.content IS NOT NULL
    ORDER BY m.id
    ON CONFLICT (tenant_id, index_id, memory_id) DO UPDATE
      SET digest = excluded.digest, embedding = excluded.embedding, updated_at = now()
    RETURNING v.memory_id, v.embedding
  )
  SELECT coalesce(jsonb_object_agg(s.memory_id, encode(sha256(array_send(s.embedding)), 'hex')), '{}') INTO kept FROM stored AS s;
  RETURN kept;
END
$$;

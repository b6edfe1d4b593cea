-- The memories whose vectors in an index are nearest to a vector of length 1, the nearest first; score: the cosine of the angle. Never fewer than so many while
-- so many may be found: those of this agent and context, with all these tags; known, and holding, at a moment (NULL: now); learned since and until.
-- Where few may be found all of them are compared; else the index of pgvector is searched until there are enough; without it, again all are compared.
-- The planner thinks that a tenant has few rows, which are quickly sorted; here it is known that it has many.
CREATE FUNCTION persistence.nearest_memories(
  tenant_id uuid, index_id uuid, agent text, context text, tags jsonb, at timestamptz, since timestamptz, until timestamptz, vector real[], most integer
) RETURNS TABLE (id uuid, score double precision)
LANGUAGE plpgsql
SET search_path = persistence, pg_temp
SET enable_sort = off
SET enable_bitmapscan = on
AS $$
#variable_conflict use_column
DECLARE
  few CONSTANT integer := 1000;
  -- a tenant and an index come first, what may be found then
  eligible CONSTANT text := $sql$
    AND ($3::text IS NULL OR m.agent = $3)
    AND ($4::text IS NULL OR m.context = $4)
    AND ($5::jsonb IS NULL OR m.tags @> $5)
    AND CASE WHEN $6::timestamptz IS NULL THEN m.status = 'ACTIVE' AND m.valid_from <= now() AND (m.valid_until IS NULL OR m.valid_until > now())
      ELSE m.created_at <= $6 AND m.valid_from <= $6 AND (m.ended_at IS NULL OR m.ended_at > $6) AND (m.valid_until IS NULL OR m.valid_until > $6)
        AND (m.version < 3 OR (
          SELECT e.event_type
          FROM persistence.orchestration_events AS e
          WHERE e.tenant_id = $1
            AND e.aggregate_id = m.id
            AND e.event_type IN ('MEMORY_PRUNED', 'MEMORY_RESTORED')
            AND e.created_at <= $6
          ORDER BY e.aggregate_version DESC
          LIMIT 1
        ) IS DISTINCT FROM 'MEMORY_PRUNED') END
    AND ($7::timestamptz IS NULL OR m.created_at >= $7)
    AND ($8::timestamptz IS NULL OR m.created_at < $8)
  $sql$;
  score text := '(SELECT sum(p.a::double precision * p.b) FROM unnest(v.embedding, $9) AS p (a, b))';
  extension record;
  these uuid[];
  ids uuid[];
  scores double precision[];
BEGIN
  SELECT n.nspname AS schema, string_to_array(substring(e.extversion FROM '^\d+\.\d+'), '.')::integer[] >= '{0,8}' AS is_new INTO extension
  FROM pg_extension AS e
  JOIN pg_namespace AS n ON n.oid = e.extnamespace
  WHERE e.extname = 'vector';
  IF FOUND THEN
    score := format('%1$I.inner_product(v.embedding::%1$I.vector, $9::%1$I.vector)', extension.schema);
  END IF;

  -- so many are soon there one by one; a bitmap would be of all first, and is worth it where tags leave few
  PERFORM set_config('enable_bitmapscan', CASE WHEN tags IS NULL THEN 'off' ELSE 'on' END, true);
  EXECUTE format(
    'SELECT array_agg(x.id) FROM (SELECT m.id FROM persistence.memories AS m WHERE m.tenant_id = $1 AND m.content IS NOT NULL %s LIMIT $9) AS x', eligible
  ) INTO these
  USING tenant_id, index_id, agent, context, tags, at, since, until, few;
  IF coalesce(cardinality(these), 0) < few THEN
    RETURN QUERY EXECUTE format(
      'SELECT v.memory_id, %s FROM persistence.memory_vectors AS v WHERE v.tenant_id = $1 AND v.index_id = $2 AND v.memory_id = ANY ($3) ORDER BY 2 DESC, 1 DESC LIMIT $4',
      replace(score, '$9', '$5')
    ) USING tenant_id, index_id, these, most, vector;
    RETURN;
  END IF;

  IF extension.is_new AND cardinality(vector) <= 4000 THEN
    PERFORM set_config('hnsw.ef_search', least(1000, greatest(160, 2 * most))::text, true), set_config('hnsw.iterative_scan', 'strict_order', true);
    -- it knows halves of numbers, so some more are taken, and compared by the whole ones
    EXECUTE format(
      $sql$
        SELECT array_agg(y.id ORDER BY y.score DESC, y.id DESC), array_agg(y.score ORDER BY y.score DESC, y.id DESC)
        FROM (
          SELECT x.id, x.score
          FROM (
            SELECT v.memory_id AS id, %1$s AS score
            FROM persistence.memory_vectors AS v
            WHERE v.tenant_id = $1
              AND v.index_id = $2
              AND v.dimensions = %2$s
              AND (SELECT true FROM persistence.memories AS m WHERE m.tenant_id = $1 AND m.id = v.memory_id %3$s)
            ORDER BY v.embedding::%4$I.halfvec(%2$s) OPERATOR(%4$I.<#>) $9::%4$I.halfvec(%2$s)
            LIMIT 2 * $10
          ) AS x
          ORDER BY x.score DESC, x.id DESC
          LIMIT $10
        ) AS y
      $sql$,
      score, cardinality(vector), eligible, extension.schema
    ) INTO ids, scores
    USING tenant_id, index_id, agent, context, tags, at, since, until, vector, most;
    IF cardinality(ids) = most THEN
      RETURN QUERY SELECT u.id, u.score FROM unnest(ids, scores) AS u (id, score);
      RETURN;
    END IF;
  END IF;

  RETURN QUERY EXECUTE format(
    $sql$
      SELECT m.id, %1$s
      FROM persistence.memories AS m
      JOIN persistence.memory_vectors AS v ON v.tenant_id = $1 AND v.index_id = $2 AND v.memory_id = m.id
      WHERE m.tenant_id = $1
      %2$s
      ORDER BY 2 DESC, 1 DESC
      LIMIT $10
    $sql$,
    score, eligible
  ) USING tenant_id, index_id, agent, context, tags, at, since, until, vector, most;
END
$$;

-- title: A vector is the one that the log says was made
-- section: 2.4
-- law: CANON-MEMORY-001 §3.1
-- severity: error
-- means: Somebody changed it: what is found is not what is near.
-- remedy: DELETE FROM persistence.memory_vectors WHERE id = …; then persistence memory rebuild.
SELECT 'memory_vectors ' || v.id AS object, 'of memory ' || v.memory_id || ' in index ' || v.index_id AS detail
FROM persistence.memory_vectors AS v
WHERE v.updated_at >= :'since'
  AND persistence.in_sample(v.id, :sample)
  AND NOT EXISTS (
    SELECT
    FROM persistence.effects AS e
    WHERE e.tenant_id = v.tenant_id
      AND e.memory_id = v.memory_id
      AND e.effect_type = 'EMBED'
      AND (
        e.status NOT IN ('EXECUTED', 'CANCELLED', 'DISCARDED')  -- what it made is said once it is settled
        OR e.execution_result #>> ARRAY['indexes', v.index_id::text, 'vector'] = encode(sha256(array_send(v.embedding)), 'hex')
        OR e.effect_spec ->> 'index_id' = v.index_id::text AND e.effect_spec ->> 'vector' = encode(sha256(array_send(v.embedding)), 'hex')
      )
  )

-- title: What the log says was made into a vector has one
-- section: 2.4
-- law: CANON-MEMORY-001 §3.1
-- severity: error
-- means: What was learned is not found by its meaning.
-- remedy: persistence memory rebuild
SELECT DISTINCT 'memories ' || m.id AS object, format('the log says that index %s has it', i.id) AS detail
FROM persistence.effects AS e
JOIN persistence.memories AS m ON m.tenant_id = e.tenant_id AND m.id = e.memory_id
CROSS JOIN LATERAL jsonb_each(CASE WHEN jsonb_typeof(e.execution_result -> 'indexes') = 'object' THEN e.execution_result -> 'indexes' END) AS d (index_id, done)
JOIN persistence.memory_indexes AS i ON i.tenant_id = e.tenant_id AND i.id::text = d.index_id
WHERE e.updated_at >= :'since'
  AND persistence.in_sample(m.id, :sample)
  AND e.effect_type = 'EMBED'
  AND e.status = 'EXECUTED'
  AND m.content IS NOT NULL
  AND i.store = 'pgvector'
  AND i.status <> 'RETIRED'
  AND d.done ->> 'done' IN ('made', 'there')
  AND NOT EXISTS (
    SELECT
    FROM persistence.memory_vectors AS v
    WHERE v.tenant_id = m.tenant_id
      AND v.index_id = i.id
      AND v.memory_id = m.id
  )

-- title: A vector is of a memory with the very text that it was made from, in an index that is kept up
-- section: 2.4
-- law: CANON-MEMORY-001 §3.1
-- severity: error
-- means: What was forgotten can still be found, or what was never learned.
-- remedy: persistence memory rebuild
SELECT 'memory_vectors ' || v.id AS object, CASE WHEN m.id IS NULL THEN 'no memory ' || v.memory_id WHEN m.content IS NULL THEN 'its memory is forgotten' WHEN m.digest <> v.digest THEN 'of another text' WHEN i.id IS NULL THEN 'no index ' || v.index_id WHEN i.status = 'RETIRED' THEN 'its index is retired' ELSE 'its index has ' || i.dimensions || ' dimensions' END AS detail
FROM persistence.memory_vectors AS v
LEFT JOIN persistence.memories AS m ON m.tenant_id = v.tenant_id AND m.id = v.memory_id
LEFT JOIN persistence.memory_indexes AS i ON i.tenant_id = v.tenant_id AND i.id = v.index_id
WHERE greatest(v.updated_at, m.updated_at, i.updated_at) >= :'since'
  AND persistence.in_sample(v.id, :sample)
  AND (m.content IS NULL OR i.id IS NULL OR m.digest <> v.digest OR i.status = 'RETIRED' OR i.dimensions <> v.dimensions)

-- title: No ordering key waits for nothing
-- section: 2.5
-- law: CANON-EVENTS-001 §5.3
-- severity: error
-- means: Entries of the key wait for their turn, and none of them has it.
-- remedy: A worker gives them their turn within seconds. If one is running, persistence replay --rebuild outbox_queue.
SELECT 'ordering key ' || q.ordering_key || ' of tenant ' || q.tenant_id AS object, count(*) || ' wait, none has its turn' AS detail
FROM persistence.outbox_queue AS q
WHERE q.ordering_key IS NOT NULL
GROUP BY q.tenant_id, q.ordering_key
HAVING (array_agg(q.held_by ORDER BY q.position))[1] = 'KEY'
  AND bool_and(q.held_by IS NOT NULL)
  AND max(q.updated_at) < now() - interval '1 hour'

-- title: No ordering key of runs waits for nothing
-- section: 2.5
-- law: CANON-FLOWS-001 §2.3
-- severity: error
-- means: Runs of the key wait for their turn, and none of them has it.
-- remedy: persistence replay --rebuild run_queue.
SELECT 'ordering key ' || q.ordering_key || ' of tenant ' || q.tenant_id AS object, count(*) || ' runs wait, none has its turn' AS detail
FROM persistence.run_queue AS q
WHERE q.ordering_key IS NOT NULL
GROUP BY q.tenant_id, q.ordering_key
HAVING bool_and(q.held_by IS NOT DISTINCT FROM 'KEY')

-- title: Every outbox entry's effect exists
-- section: 2.1
-- law: CANON-EVENTS-001 §4.2
-- severity: error
-- means: Something would be delivered that nobody asked for.
-- remedy: Compare with the log (persistence replay --verify), and restore the missing row: persistence replay --rebuild effects.
SELECT 'outbox_events ' || o.id AS object, 'no effect ' || o.aggregate_id AS detail
FROM persistence.outbox_events AS o
LEFT JOIN persistence.effects AS e ON e.tenant_id = o.tenant_id AND e.id = o.aggregate_id
WHERE o.updated_at >= :'since'
  AND e.id IS NULL

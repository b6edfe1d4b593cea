-- title: Every effect that is not delivered has its outbox entry
-- section: 2.5
-- law: CANON-EVENTS-001 §4.2
-- severity: error
-- means: The effect was recorded and will never leave.
-- remedy: persistence replay --rebuild outbox_events, then outbox_queue.
SELECT 'effects ' || e.id AS object, e.effect_type || ' ' || e.status || ' without an outbox entry' AS detail
FROM persistence.effects AS e
LEFT JOIN persistence.outbox_events AS o ON o.tenant_id = e.tenant_id AND o.id = e.id
WHERE e.updated_at >= :'since'
  AND e.status <> 'EXECUTED'
  AND o.id IS NULL

-- title: Effect and outbox entry say the same: status, type, key and payload
-- section: 2.5
-- law: CANON-EVENTS-001 §4.3
-- severity: error
-- means: What is delivered is not what was asked for, or is told wrongly.
-- remedy: persistence replay --rebuild effects, and outbox_events.
SELECT 'outbox_events ' || o.id AS object, concat_ws(', ',
    CASE WHEN o.status <> CASE e.status WHEN 'EXECUTED' THEN 'PUBLISHED' ELSE e.status END THEN 'status ' || o.status || ' and ' || e.status END,
    CASE WHEN o.event_type <> e.effect_type THEN 'type ' || o.event_type || ' and ' || e.effect_type END,
    CASE WHEN o.idempotency_key <> e.idempotency_key THEN 'two idempotency keys' END,
    CASE WHEN o.payload <> e.effect_spec THEN 'payload and effect_spec' END
  ) AS detail
FROM persistence.outbox_events AS o
JOIN persistence.effects AS e ON e.tenant_id = o.tenant_id AND e.id = o.aggregate_id
WHERE o.updated_at >= :'since'
  AND persistence.in_sample(o.id, :sample)
  AND (
    o.status <> CASE e.status WHEN 'EXECUTED' THEN 'PUBLISHED' ELSE e.status END
    OR o.event_type <> e.effect_type
    OR o.idempotency_key <> e.idempotency_key
    OR o.payload <> e.effect_spec
  )

-- title: Every effect's spec carries its idempotency key
-- section: 2.5
-- law: CANON-EVENTS-001 §6.2
-- severity: error
-- means: The receiver cannot tell a second delivery from a second order.
-- remedy: persistence replay --rebuild effects.
SELECT 'effects ' || e.id AS object, coalesce('the spec says "' || (e.effect_spec ->> 'idempotency_key') || '", the column "' || e.idempotency_key || '"', 'the spec has none') AS detail
FROM persistence.effects AS e
WHERE e.updated_at >= :'since'
  AND e.effect_spec ->> 'idempotency_key' IS DISTINCT FROM e.idempotency_key

-- title: Nothing is held back since a restore
-- section: 2.5
-- law: CANON-EVENTS-001 §5.2
-- severity: warning
-- means: Effects wait for somebody to say whether they were delivered in the time that the restore took away.
-- remedy: persistence restore held lists them; persistence restore release lets them go, under the idempotency keys they always had.
SELECT 'effect type ' || q.effect_type || ' of tenant ' || q.tenant_id AS object, count(*) || ' held back' AS detail
FROM persistence.outbox_queue AS q
WHERE q.held_by = 'RESTORE'
GROUP BY q.effect_type, q.tenant_id

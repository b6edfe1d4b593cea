-- title: No entry has been due for more than an hour
-- section: 2.5
-- law: CANON-EVENTS-001 §5.2
-- severity: warning
-- means: Workers are too few, or none handles this type of effect.
-- remedy: Start more workers, or one with a handler for the type: persistence worker --app …
SELECT 'effect type ' || q.effect_type || ' of tenant ' || q.tenant_id AS object, count(*) || ' due, the oldest since ' || min(q.due_at) AS detail
FROM persistence.outbox_queue AS q
WHERE (q.leased_until IS NULL OR q.leased_until < now())
  AND q.due_at < now() - interval '1 hour'
GROUP BY q.effect_type, q.tenant_id

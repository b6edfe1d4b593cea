-- title: No lease ran out more than an hour ago
-- section: 2.5
-- law: CANON-EVENTS-001 §5.1
-- severity: error
-- means: A worker died and no other took its entries over: none is running for this type of effect.
-- remedy: Start a worker with a handler for the type: persistence worker.
SELECT 'outbox_queue ' || q.id AS object, q.effect_type || ' leased by ' || coalesce(q.leased_by, '(nobody)') || ', expired ' || q.leased_until AS detail
FROM persistence.outbox_queue AS q
WHERE q.lease_token IS NOT NULL
  AND q.leased_until < now() - interval '1 hour'

-- title: A leased entry says by whom, and no entry forgot an attempt
-- section: 2.5
-- law: CANON-EVENTS-001 §5.1
-- severity: error
-- means: The queue was written past the functions: an entry may be tried too often, or a worker cannot be found.
-- remedy: persistence replay --rebuild outbox_queue.
SELECT 'outbox_queue ' || q.id AS object, CASE WHEN q.attempts < o.retry_count THEN q.attempts || ' attempts, its entry ' || o.retry_count WHEN q.lease_token IS NULL THEN 'leased without a token' WHEN q.leased_until IS NULL THEN 'leased for no time' ELSE 'leased by nobody' END AS detail
FROM persistence.outbox_queue AS q
JOIN persistence.outbox_events AS o ON o.tenant_id = q.tenant_id AND o.id = q.id
WHERE (q.lease_token IS NULL) <> (q.leased_by IS NULL)
  OR (q.lease_token IS NULL) <> (q.leased_until IS NULL)
  OR q.attempts < o.retry_count

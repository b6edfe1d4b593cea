-- title: What was cancelled under a worker's hands is not tried again
-- section: 2.5
-- law: CANON-EVENTS-001 §5.6
-- severity: error
-- means: An effect that nobody wants any more would be delivered.
-- remedy: persistence replay --rebuild outbox_queue.
SELECT 'outbox_queue ' || q.id AS object, 'held by ' || coalesce(q.held_by, 'nothing') || ', its effect ' || CASE WHEN e.cancel_requested_at IS NULL THEN 'is wanted' ELSE 'was cancelled ' || e.cancel_requested_at END AS detail
FROM persistence.outbox_queue AS q
JOIN persistence.effects AS e ON e.tenant_id = q.tenant_id AND e.id = q.id
WHERE e.status = 'PENDING'
  AND (q.held_by IS NOT DISTINCT FROM 'CANCELLED') <> (e.cancel_requested_at IS NOT NULL)

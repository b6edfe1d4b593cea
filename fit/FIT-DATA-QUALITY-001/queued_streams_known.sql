-- title: Claims know where to look for everything in the queue
-- section: 2.5
-- law: CANON-EVENTS-001 §5.4
-- severity: error
-- means: The tenant's entries of this type wait for ever, or nobody sees them: claims go by outbox_marks, everything else by outbox_streams.
-- remedy: persistence replay --rebuild outbox_queue.
SELECT 'effect type ' || q.effect_type || ' of tenant ' || q.tenant_id AS object, count(*) || ' queued where nobody looks' AS detail
FROM persistence.outbox_queue AS q
LEFT JOIN persistence.outbox_streams AS s ON s.tenant_id = q.tenant_id AND s.effect_type = q.effect_type
WHERE s.id IS NULL
  OR (
    -- whoever handles the type should have left a mark long since
    q.due_at < now() - interval '10 minutes'
    AND q.leased_until IS NULL
    AND s.handled_at > now() - interval '2 minutes'
    AND NOT EXISTS (SELECT FROM persistence.outbox_marks AS m WHERE m.tenant_id = q.tenant_id AND m.effect_type = q.effect_type)
  )
GROUP BY q.tenant_id, q.effect_type

-- title: Claims know where to look for everything in the queue
-- section: 2.5
-- law: CANON-EVENTS-001 §5.4
-- severity: error
-- means: The tenant's entries of this type wait for ever: claims go by outbox_streams.
-- remedy: persistence replay --rebuild outbox_queue.
SELECT 'effect type ' || q.effect_type || ' of tenant ' || q.tenant_id AS object, count(*) || ' queued where no claim looks' AS detail
FROM persistence.outbox_queue AS q
LEFT JOIN persistence.outbox_streams AS s ON s.tenant_id = q.tenant_id AND s.effect_type = q.effect_type
WHERE s.id IS NULL
GROUP BY q.tenant_id, q.effect_type

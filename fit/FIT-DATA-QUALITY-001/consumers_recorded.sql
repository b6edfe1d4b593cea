-- title: Every consumer was added and not removed
-- section: 2.5
-- law: CANON-TRACE-001 §6.3
-- severity: error
-- means: Somebody follows the log, or follows it no longer, and no event says so.
-- remedy: persistence streams consumer remove, and subscribe again.
SELECT
  format('consumers %s of tenant %s', coalesce(c.id, a.consumer_id), coalesce(c.tenant_id, a.tenant_id)) AS object,
  CASE
    WHEN a.consumer_id IS NULL THEN 'was never added'
    WHEN c.id IS NULL THEN 'was added, and is gone'
    ELSE format('is %s of %s by %s at %s; was added as %s by %s at %s', c.name, c.channel, c.actor, c.created_at, a.event_data, a.actor, a.occurred_at)
  END AS detail
FROM persistence.consumers AS c
FULL JOIN (
  SELECT e.tenant_id, (e.event_data ->> 'consumer_id')::uuid AS consumer_id, e.event_data, e.actor, e.occurred_at
  FROM persistence.orchestration_events AS e
  WHERE e.aggregate_id = e.tenant_id
    AND e.event_type = 'TENANT_CONSUMER_ADDED'
    AND NOT EXISTS (
      SELECT
      FROM persistence.orchestration_events AS r
      WHERE r.tenant_id = e.tenant_id
        AND r.aggregate_id = e.tenant_id
        AND r.event_type = 'TENANT_CONSUMER_REMOVED'
        AND r.event_data ->> 'consumer_id' = e.event_data ->> 'consumer_id'
    )
) AS a ON a.tenant_id = c.tenant_id AND a.consumer_id = c.id
WHERE c.id IS NULL
  OR a.consumer_id IS NULL
  OR (c.name, c.channel, c.actor, c.created_at) IS DISTINCT FROM (a.event_data ->> 'name', a.event_data ->> 'channel', a.actor, a.occurred_at)

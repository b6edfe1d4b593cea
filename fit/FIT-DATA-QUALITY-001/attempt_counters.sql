-- title: An effect's attempts agree with the last event that told of them, in the effect and in its outbox entry
-- section: 2.4
-- law: CANON-EVENTS-001 §7.1
-- severity: error
-- means: The effect would be tried too often, or given up too early.
-- remedy: persistence replay --rebuild effects, and outbox_events.
SELECT 'effects ' || e.id AS object, 'counts ' || e.retry_count || ', the outbox ' || coalesce(o.retry_count, e.retry_count) || ', the log ' || coalesce(l.attempts, 0) AS detail
FROM persistence.effects AS e
LEFT JOIN persistence.outbox_events AS o ON o.tenant_id = e.tenant_id AND o.id = e.id
LEFT JOIN LATERAL (
  SELECT (x.event_data ->> 'retry_count')::integer AS attempts
  FROM persistence.orchestration_events AS x
  WHERE x.tenant_id = e.tenant_id
    AND x.aggregate_id = e.id
    AND x.event_data ? 'retry_count'
  ORDER BY x.aggregate_version DESC
  LIMIT 1
) AS l ON true
WHERE e.updated_at >= :'since'
  AND persistence.in_sample(e.id, :sample)
  AND (e.retry_count <> coalesce(l.attempts, 0) OR o.retry_count <> e.retry_count)

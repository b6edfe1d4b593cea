-- title: Every limit is the one that was last set for it
-- section: 2.5
-- law: CANON-EVENTS-001 §5.4
-- severity: error
-- means: Somebody changed how much work a tenant gets, past the function that records it.
-- remedy: persistence limits set, with the values that are meant.
SELECT
  format('outbox_limits %s of tenant %s', coalesce(l.effect_type, s.effect_type), coalesce(l.tenant_id, s.tenant_id)) AS object,
  format('is weight %s, concurrency %s, rate %s; was set to %s', l.weight, l.max_concurrency, l.max_rate, s.event_data) AS detail
FROM persistence.outbox_limits AS l
FULL JOIN (
  SELECT DISTINCT ON (e.tenant_id, e.event_data ->> 'effect_type')
    e.tenant_id, e.event_data ->> 'effect_type' AS effect_type, e.event_data
  FROM persistence.orchestration_events AS e
  WHERE e.aggregate_id = e.tenant_id
    AND e.event_type = 'TENANT_LIMIT_SET'
  ORDER BY e.tenant_id, e.event_data ->> 'effect_type', e.aggregate_version DESC
) AS s ON s.tenant_id = l.tenant_id AND s.effect_type = l.effect_type
WHERE (coalesce(l.weight, 1), l.max_concurrency, l.max_rate)
  IS DISTINCT FROM (
    coalesce((s.event_data ->> 'weight')::integer, 1),
    (s.event_data ->> 'max_concurrency')::integer,
    (s.event_data ->> 'max_rate')::double precision
  )

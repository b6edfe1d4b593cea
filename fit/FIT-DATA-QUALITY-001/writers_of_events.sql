-- title: Events of workers and operators come from them, and nobody else writes in their name
-- section: 2.3
-- law: CANON-TRACE-001 §3.2
-- severity: error
-- means: Somebody wrote past the functions, in the name of a worker or an operator.
-- remedy: Find out who had the right to (created_at, transaction_id); compare with the logs of the workers.
SELECT 'event ' || e.id AS object, e.event_type || ' by ' || e.actor || ' from ' || e.source AS detail
FROM persistence.orchestration_events AS e TABLESAMPLE SYSTEM (:sample)
JOIN canon.event_types AS t USING (event_type, event_version)
WHERE e.created_at >= :'since'
  AND (
    (e.source = 'outbox') <> (e.actor LIKE concat_ws(':', 'system', 'outbox-worker/%'))
    OR (t.writer = 'worker' AND e.source <> 'outbox')
    OR (t.writer = 'operator' AND e.source <> 'operator')
    OR (t.writer IN ('service', 'plane') AND (e.source = 'operator' OR (e.source = 'outbox' AND e.event_type <> 'EFFECT_CANCELLED')))
  )

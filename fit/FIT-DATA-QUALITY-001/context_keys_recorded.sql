-- title: As many context keys are set as the log says
-- section: 7.1
-- law: CANON-PERSISTENCE-001 §4.8
-- severity: error
-- means: Somebody added or removed a key, whose proofs let one enter any tenant, without an event.
-- remedy: Make out who; then set the keys again: persistence context sign.
SELECT 'canon.context_keys' AS object, format('%s keys are set, the log says %s', k.keys, coalesce(e.keys, 0)) AS detail
FROM (SELECT count(k.added_at) AS keys FROM canon.context_keys AS k) AS k
LEFT JOIN (
  SELECT (log.event_data ->> 'keys')::bigint AS keys
  FROM persistence.orchestration_events AS log
  WHERE log.tenant_id = persistence.system_tenant_id()
    AND log.event_type = 'CONTEXT_KEYS_SET'
  ORDER BY log.sequence_number DESC
  LIMIT 1
) AS e ON true
WHERE k.keys <> coalesce(e.keys, 0)

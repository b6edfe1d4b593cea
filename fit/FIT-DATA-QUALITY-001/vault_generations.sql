-- title: The generations of a vault rise
-- section: 2.2
-- law: CANON-VAULT-001 §2.3
-- severity: error
-- means: An older file of the vault was put in place of a later one, and changed.
-- remedy: Find out who (actor); rekey the vault, and set anew what was changed since.
SELECT 'event ' || g.id AS object, format('generation %s of vault %s came after %s', g.generation, g.vault_id, g.before) AS detail
FROM (
  SELECT
    e.id, e.event_data ->> 'vault_id' AS vault_id, (e.event_data ->> 'generation')::bigint AS generation, e.event_data ->> 'change' AS change,
    lag((e.event_data ->> 'generation')::bigint) OVER (PARTITION BY e.event_data ->> 'vault_id' ORDER BY e.aggregate_version) AS before
  FROM persistence.orchestration_events AS e
  WHERE e.tenant_id = persistence.system_tenant_id()
    AND e.aggregate_id = persistence.system_tenant_id()
    AND e.event_type = 'VAULT_CHANGED'
) AS g
WHERE g.generation <= g.before
  AND g.change <> 'restored'

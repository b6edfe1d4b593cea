-- title: Every row says who made it
-- section: 2.3
-- law: CANON-TRACE-001 §3.1
-- severity: error
-- means: The row was written past the functions.
-- remedy: Restore the row from the log: persistence replay --rebuild with the name of its table.
SELECT x.source || ' ' || x.id AS object, 'by "' || x.actor || '"' AS detail
FROM (
  SELECT 'tenants' AS source, t.tenant_id AS id, t.actor, t.updated_at FROM persistence.tenants AS t
  UNION ALL SELECT 'user_tenants', t.user_id, t.actor, t.updated_at FROM persistence.user_tenants AS t
  UNION ALL SELECT 'signals', t.id, t.actor, t.updated_at FROM persistence.signals AS t
  UNION ALL SELECT 'runs', t.id, t.actor, t.updated_at FROM persistence.runs AS t
  UNION ALL SELECT 'steps', t.id, t.actor, t.updated_at FROM persistence.steps AS t
  UNION ALL SELECT 'tool_calls', t.id, t.actor, t.updated_at FROM persistence.tool_calls AS t
  UNION ALL SELECT 'effects', t.id, t.actor, t.updated_at FROM persistence.effects AS t
  UNION ALL SELECT 'run_checkpoints', t.id, t.actor, t.updated_at FROM persistence.run_checkpoints AS t
  UNION ALL SELECT 'data_keys', t.id, t.actor, t.updated_at FROM persistence.data_keys AS t
  UNION ALL SELECT 'secrets', t.id, t.actor, t.updated_at FROM persistence.secrets AS t
  UNION ALL SELECT 'vault_accesses', t.id, t.actor, t.updated_at FROM persistence.vault_accesses AS t
  UNION ALL SELECT 'memories', t.id, t.actor, t.updated_at FROM persistence.memories AS t
  UNION ALL SELECT 'memory_recalls', t.id, t.actor, t.updated_at FROM persistence.memory_recalls AS t
  UNION ALL SELECT 'memory_indexes', t.id, t.actor, t.updated_at FROM persistence.memory_indexes AS t
  UNION ALL SELECT 'snapshots', t.id, t.actor, t.updated_at FROM persistence.snapshots AS t
  UNION ALL SELECT 'outbox_events', t.id, t.actor, t.updated_at FROM persistence.outbox_events AS t
  UNION ALL SELECT 'backup_verifications', t.id, t.actor, t.updated_at FROM persistence.backup_verifications AS t
) AS x
WHERE x.updated_at >= :'since'
  AND x.actor !~ (SELECT r.value #>> '{}' FROM canon.rules AS r WHERE r.name = 'actor_pattern')

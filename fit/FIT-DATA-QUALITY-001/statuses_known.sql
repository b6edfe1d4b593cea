-- title: Every row has a status of its state machine
-- section: 2.4
-- law: CANON-ORCH-STATE-001 §2.5
-- severity: error
-- means: The row was changed past the functions; no event can move it.
-- remedy: Restore the row from the log: persistence replay --rebuild with the name of its table.
SELECT x.source || ' ' || x.id AS object, 'status "' || x.status || '"' AS detail
FROM (
  SELECT 'signals' AS source, t.id, t.status, t.updated_at FROM persistence.signals AS t
  UNION ALL SELECT 'runs', t.id, t.status, t.updated_at FROM persistence.runs AS t
  UNION ALL SELECT 'steps', t.id, t.status, t.updated_at FROM persistence.steps AS t
  UNION ALL SELECT 'tool_calls', t.id, t.status, t.updated_at FROM persistence.tool_calls AS t
  UNION ALL SELECT 'effects', t.id, t.status, t.updated_at FROM persistence.effects AS t
  UNION ALL SELECT 'run_checkpoints', t.id, t.status, t.updated_at FROM persistence.run_checkpoints AS t
  UNION ALL SELECT 'data_keys', t.id, t.status, t.updated_at FROM persistence.data_keys AS t
  UNION ALL SELECT 'secrets', t.id, t.status, t.updated_at FROM persistence.secrets AS t
  UNION ALL SELECT 'vault_accesses', t.id, t.status, t.updated_at FROM persistence.vault_accesses AS t
  UNION ALL SELECT 'memories', t.id, t.status, t.updated_at FROM persistence.memories AS t
  UNION ALL SELECT 'memory_recalls', t.id, t.status, t.updated_at FROM persistence.memory_recalls AS t
  UNION ALL SELECT 'memory_indexes', t.id, t.status, t.updated_at FROM persistence.memory_indexes AS t
  UNION ALL SELECT 'snapshots', t.id, t.status, t.updated_at FROM persistence.snapshots AS t
  UNION ALL SELECT 'outbox_events', t.id, t.status, t.updated_at FROM persistence.outbox_events AS t
  UNION ALL SELECT 'backup_verifications', t.id, t.status, t.updated_at FROM persistence.backup_verifications AS t
) AS x
JOIN canon.aggregates AS g ON g.table_name = x.source
WHERE x.updated_at >= :'since'
  AND x.status <> ALL (g.statuses)

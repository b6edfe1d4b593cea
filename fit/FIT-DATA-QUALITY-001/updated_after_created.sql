-- title: No row was updated before it was created
-- section: 2.4
-- law: CANON-ORCH-STATE-001 §2.7
-- severity: error
-- means: The row was written past the functions.
-- remedy: persistence replay --rebuild with the name of the table.
SELECT x.source || ' ' || x.id AS object, 'created ' || x.created_at || ', updated ' || x.updated_at AS detail
FROM (
  SELECT 'orchestration_events' AS source, t.id, t.created_at, t.updated_at FROM persistence.orchestration_events AS t WHERE t.created_at >= :'since'
  UNION ALL SELECT 'signals', t.id, t.created_at, t.updated_at FROM persistence.signals AS t
  UNION ALL SELECT 'runs', t.id, t.created_at, t.updated_at FROM persistence.runs AS t
  UNION ALL SELECT 'steps', t.id, t.created_at, t.updated_at FROM persistence.steps AS t
  UNION ALL SELECT 'tool_calls', t.id, t.created_at, t.updated_at FROM persistence.tool_calls AS t
  UNION ALL SELECT 'effects', t.id, t.created_at, t.updated_at FROM persistence.effects AS t
  UNION ALL SELECT 'run_checkpoints', t.id, t.created_at, t.updated_at FROM persistence.run_checkpoints AS t
  UNION ALL SELECT 'data_keys', t.id, t.created_at, t.updated_at FROM persistence.data_keys AS t
  UNION ALL SELECT 'secrets', t.id, t.created_at, t.updated_at FROM persistence.secrets AS t
  UNION ALL SELECT 'vault_accesses', t.id, t.created_at, t.updated_at FROM persistence.vault_accesses AS t
  UNION ALL SELECT 'memories', t.id, t.created_at, t.updated_at FROM persistence.memories AS t
  UNION ALL SELECT 'memory_recalls', t.id, t.created_at, t.updated_at FROM persistence.memory_recalls AS t
  UNION ALL SELECT 'memory_indexes', t.id, t.created_at, t.updated_at FROM persistence.memory_indexes AS t
  UNION ALL SELECT 'snapshots', t.id, t.created_at, t.updated_at FROM persistence.snapshots AS t
  UNION ALL SELECT 'outbox_events', t.id, t.created_at, t.updated_at FROM persistence.outbox_events AS t
  UNION ALL SELECT 'outbox_queue', t.id, t.created_at, t.updated_at FROM persistence.outbox_queue AS t
) AS x
WHERE x.updated_at < x.created_at

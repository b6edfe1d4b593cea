-- title: Every row's last event is in the log, with the row's version, and led to its status
-- section: 2.4
-- law: CANON-PERSISTENCE-001 §3.3
-- severity: error
-- means: The row was changed without an event, or the event behind it is gone.
-- remedy: persistence replay --verify says which columns differ; persistence replay --rebuild restores the table from the log.
SELECT x.source || ' ' || x.id AS object, CASE WHEN e.id IS NULL THEN 'its last event ' || x.last_event_id || ' is not in the log' ELSE 'version ' || x.version || ' ' || x.status || ', its last event is ' || e.event_type || ' of version ' || e.aggregate_version END AS detail
FROM (
  SELECT 'SIGNAL' AS kind, 'signals' AS source, t.tenant_id, t.id, t.status, t.version, t.last_event_id, t.updated_at FROM persistence.signals AS t
  UNION ALL SELECT 'RUN', 'runs', t.tenant_id, t.id, t.status, t.version, t.last_event_id, t.updated_at FROM persistence.runs AS t
  UNION ALL SELECT 'STEP', 'steps', t.tenant_id, t.id, t.status, t.version, t.last_event_id, t.updated_at FROM persistence.steps AS t
  UNION ALL SELECT 'TOOL_CALL', 'tool_calls', t.tenant_id, t.id, t.status, t.version, t.last_event_id, t.updated_at FROM persistence.tool_calls AS t
  UNION ALL SELECT 'EFFECT', 'effects', t.tenant_id, t.id, t.status, t.version, t.last_event_id, t.updated_at FROM persistence.effects AS t
  UNION ALL SELECT 'CHECKPOINT', 'run_checkpoints', t.tenant_id, t.id, t.status, t.version, t.last_event_id, t.updated_at FROM persistence.run_checkpoints AS t
  UNION ALL SELECT 'DATA_KEY', 'data_keys', t.tenant_id, t.id, t.status, t.version, t.last_event_id, t.updated_at FROM persistence.data_keys AS t
  UNION ALL SELECT 'SECRET', 'secrets', t.tenant_id, t.id, t.status, t.version, t.last_event_id, t.updated_at FROM persistence.secrets AS t
  UNION ALL SELECT 'VAULT_ACCESS', 'vault_accesses', t.tenant_id, t.id, t.status, t.version, t.last_event_id, t.updated_at FROM persistence.vault_accesses AS t
  UNION ALL SELECT 'MEMORY', 'memories', t.tenant_id, t.id, t.status, t.version, t.last_event_id, t.updated_at FROM persistence.memories AS t
  UNION ALL SELECT 'MEMORY_RECALL', 'memory_recalls', t.tenant_id, t.id, t.status, t.version, t.last_event_id, t.updated_at FROM persistence.memory_recalls AS t
  UNION ALL SELECT 'MEMORY_INDEX', 'memory_indexes', t.tenant_id, t.id, t.status, t.version, t.last_event_id, t.updated_at FROM persistence.memory_indexes AS t
  UNION ALL SELECT 'SNAPSHOT', 'snapshots', t.tenant_id, t.id, t.status, t.version, t.last_event_id, t.updated_at FROM persistence.snapshots AS t
  UNION ALL SELECT 'BACKUP_VERIFICATION', 'backup_verifications', t.tenant_id, t.id, t.status, t.version, t.last_event_id, t.updated_at FROM persistence.backup_verifications AS t
  UNION ALL SELECT 'OUTBOX_ENTRY', 'outbox_events', t.tenant_id, t.aggregate_id, t.status, t.version, t.last_event_id, t.updated_at FROM persistence.outbox_events AS t
) AS x
LEFT JOIN persistence.orchestration_events AS e ON e.tenant_id = x.tenant_id AND e.id = x.last_event_id
WHERE x.updated_at >= :'since'
  AND persistence.in_sample(x.id, :sample)
  AND (
    e.id IS NULL
    OR e.aggregate_id <> x.id
    OR e.aggregate_version <> x.version
    OR NOT EXISTS (
      SELECT FROM canon.state_transitions AS w WHERE w.aggregate_type = x.kind AND w.event_type = e.event_type AND w.to_status = x.status
    )
  )

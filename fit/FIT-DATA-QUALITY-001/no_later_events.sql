-- title: No aggregate has events that its row has not seen
-- section: 2.4
-- law: CANON-PERSISTENCE-001 §3.3
-- severity: error
-- means: The log went on without the table: events were written past append_events, or a row was put back.
-- remedy: persistence replay --rebuild with the name of the table.
SELECT e.aggregate_type || ' ' || e.aggregate_id AS object, 'the log is at version ' || e.version || ', the table at ' || coalesce(x.version::text, '(no row)') AS detail
FROM (
  SELECT l.tenant_id, l.aggregate_type, l.aggregate_id, max(l.aggregate_version) AS version
  FROM persistence.orchestration_events AS l
  WHERE l.aggregate_type <> 'TENANT'
    AND persistence.in_sample(l.aggregate_id, :sample)
    AND (l.tenant_id, l.aggregate_id) IN (SELECT late.tenant_id, late.aggregate_id FROM persistence.orchestration_events AS late WHERE late.created_at >= :'since')  -- since
  GROUP BY l.tenant_id, l.aggregate_type, l.aggregate_id
) AS e
LEFT JOIN (
  SELECT 'SIGNAL' AS kind, t.tenant_id, t.id, t.version FROM persistence.signals AS t
  UNION ALL SELECT 'RUN', t.tenant_id, t.id, t.version FROM persistence.runs AS t
  UNION ALL SELECT 'STEP', t.tenant_id, t.id, t.version FROM persistence.steps AS t
  UNION ALL SELECT 'TOOL_CALL', t.tenant_id, t.id, t.version FROM persistence.tool_calls AS t
  UNION ALL SELECT 'EFFECT', t.tenant_id, t.id, t.version FROM persistence.effects AS t
  UNION ALL SELECT 'CHECKPOINT', t.tenant_id, t.id, t.version FROM persistence.run_checkpoints AS t
  UNION ALL SELECT 'DATA_KEY', t.tenant_id, t.id, t.version FROM persistence.data_keys AS t
  UNION ALL SELECT 'SECRET', t.tenant_id, t.id, t.version FROM persistence.secrets AS t
  UNION ALL SELECT 'VAULT_ACCESS', t.tenant_id, t.id, t.version FROM persistence.vault_accesses AS t
  UNION ALL SELECT 'MEMORY', t.tenant_id, t.id, t.version FROM persistence.memories AS t
  UNION ALL SELECT 'MEMORY_RECALL', t.tenant_id, t.id, t.version FROM persistence.memory_recalls AS t
  UNION ALL SELECT 'MEMORY_INDEX', t.tenant_id, t.id, t.version FROM persistence.memory_indexes AS t
  UNION ALL SELECT 'SNAPSHOT', t.tenant_id, t.id, t.version FROM persistence.snapshots AS t
  UNION ALL SELECT 'BACKUP_VERIFICATION', t.tenant_id, t.id, t.version FROM persistence.backup_verifications AS t
) AS x ON x.kind = e.aggregate_type AND x.tenant_id = e.tenant_id AND x.id = e.aggregate_id
WHERE x.version IS DISTINCT FROM e.version

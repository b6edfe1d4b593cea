-- title: Every row belongs to a tenant that exists
-- section: 2.1
-- law: CANON-PERSISTENCE-001 §4.1
-- severity: error
-- means: The row was written past the functions: no tenant can see it.
-- remedy: Find out how it came there (its last event says when and by whom); create the tenant, or restore from a backup.
SELECT t.source || ' of tenant ' || t.tenant_id AS object, 'there is no such tenant' AS detail
FROM (
  SELECT DISTINCT 'orchestration_events' AS source, e.tenant_id FROM persistence.orchestration_events AS e WHERE e.created_at >= :'since'
  UNION ALL SELECT DISTINCT 'signals', x.tenant_id FROM persistence.signals AS x WHERE x.updated_at >= :'since'
  UNION ALL SELECT DISTINCT 'runs', x.tenant_id FROM persistence.runs AS x WHERE x.updated_at >= :'since'
  UNION ALL SELECT DISTINCT 'outbox_events', x.tenant_id FROM persistence.outbox_events AS x WHERE x.updated_at >= :'since'
) AS t
WHERE NOT EXISTS (SELECT FROM persistence.tenants AS k WHERE k.tenant_id = t.tenant_id)

-- title: The projection run_summary says what the runs said when it was made
-- section: 2.6
-- law: CANON-PERSISTENCE-001 §6.3
-- severity: error
-- means: The projection is wrong, not only old.
-- remedy: persistence housekeeping makes it anew.
SELECT 'run_summary ' || p.id AS object, coalesce('says ' || p.status || ', the run ' || r.status, 'there is no such run') AS detail
FROM persistence.run_summary AS p
LEFT JOIN persistence.runs AS r ON r.tenant_id = p.tenant_id AND r.id = p.id
WHERE r.id IS NULL OR r.version < p.version OR (r.version = p.version AND (r.status <> p.status OR r.run_type <> p.run_type))

-- title: The projection run_summary is not more than an hour behind
-- section: 2.6
-- law: CANON-PERSISTENCE-001 §6.3
-- severity: warning
-- means: Overviews show old figures; no decision depends on them.
-- remedy: persistence housekeeping, or let a worker do it (--housekeeping-interval).
SELECT 'persistence.run_summary' AS object, count(*) || ' runs have changed since, the first at ' || min(r.updated_at) AS detail
FROM persistence.runs AS r
LEFT JOIN persistence.run_summary AS p ON p.tenant_id = r.tenant_id AND p.id = r.id
WHERE r.updated_at < now() - interval '1 hour'
  AND r.updated_at >= :'since'
  AND (p.id IS NULL OR p.refreshed_at < r.updated_at)
HAVING count(*) > 0

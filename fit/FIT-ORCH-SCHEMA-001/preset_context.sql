-- title: No role or database comes with a tenant or user entered
-- section: 2.11
-- law: CANON-PERSISTENCE-001 §4.7
-- severity: error
-- means: Whoever logs in so is in a tenant without having entered it.
-- remedy: ALTER ROLE … RESET persistence.tenant_id, persistence.user_id.
SELECT coalesce('role ' || r.rolname, 'database ' || d.datname, 'all') AS object, setting AS detail
FROM pg_db_role_setting AS s
LEFT JOIN pg_roles AS r ON r.oid = s.setrole
LEFT JOIN pg_database AS d ON d.oid = s.setdatabase
CROSS JOIN LATERAL unnest(s.setconfig) AS setting
WHERE (s.setdatabase = 0 OR d.datname = current_database())
  AND setting LIKE 'persistence.%'

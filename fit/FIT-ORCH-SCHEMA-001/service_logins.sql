-- title: No login that works for services is superuser or bypasses row level security
-- section: 2.7
-- law: CANON-PERSISTENCE-001 §5.3
-- severity: error
-- means: For this login there is no wall between tenants.
-- remedy: ALTER ROLE … NOSUPERUSER NOBYPASSRLS.
SELECT l.rolname::text AS object, concat_ws(', ', CASE WHEN l.rolsuper THEN 'SUPERUSER' END, CASE WHEN l.rolbypassrls THEN 'BYPASSRLS' END) || ' as member of ' || g.rolname AS detail
FROM pg_auth_members AS m
JOIN pg_roles AS l ON l.oid = m.member
JOIN pg_roles AS g ON g.oid = m.roleid
WHERE g.rolname IN ('persistence_app', 'persistence_worker', 'persistence_operator', 'persistence_auditor')
  AND l.rolcanlogin
  AND (l.rolsuper OR l.rolbypassrls)

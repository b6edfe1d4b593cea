-- title: No login that works for services is superuser or bypasses row level security
-- section: 2.7
-- law: CANON-PERSISTENCE-001 §5.3
-- severity: error
-- means: For this login there is no wall between tenants.
-- remedy: ALTER ROLE … NOSUPERUSER NOBYPASSRLS.
WITH RECURSIVE members AS (
  SELECT g.oid AS member, g.rolname AS plane_role
  FROM pg_roles AS g
  WHERE g.rolname IN ('persistence_app', 'persistence_worker', 'persistence_operator', 'persistence_auditor')
  UNION
  SELECT m.member, x.plane_role
  FROM members AS x
  JOIN pg_auth_members AS m ON m.roleid = x.member
)
SELECT l.rolname::text AS object, concat_ws(', ', CASE WHEN l.rolsuper THEN 'SUPERUSER' END, CASE WHEN l.rolbypassrls THEN 'BYPASSRLS' END) || ' as member of ' || x.plane_role AS detail
FROM members AS x
JOIN pg_roles AS l ON l.oid = x.member
WHERE l.rolcanlogin
  AND (l.rolsuper OR l.rolbypassrls)

-- title: Rights are granted to the plane's roles, not to logins
-- section: 2.7
-- law: CANON-PERSISTENCE-001 §5.3
-- severity: warning
-- means: What this login may do is written down nowhere but in the database.
-- remedy: GRANT one of the plane's roles to the login, and REVOKE the rest.
SELECT c.oid::regclass::text AS object, g.privilege_type || ' for ' || r.rolname AS detail
FROM pg_class AS c
JOIN canon.tables AS t ON c.oid = to_regclass('persistence.' || t.table_name)
CROSS JOIN LATERAL aclexplode(c.relacl) AS g
JOIN pg_roles AS r ON r.oid = g.grantee
WHERE r.rolcanlogin
UNION ALL
SELECT c.oid::regclass || '.' || a.attname, g.privilege_type || ' for ' || r.rolname
FROM pg_class AS c
JOIN canon.tables AS t ON c.oid = to_regclass('persistence.' || t.table_name)
JOIN pg_attribute AS a ON a.attrelid = c.oid
CROSS JOIN LATERAL aclexplode(a.attacl) AS g
JOIN pg_roles AS r ON r.oid = g.grantee
WHERE r.rolcanlogin

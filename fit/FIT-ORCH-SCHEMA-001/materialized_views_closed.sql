-- title: Nobody but owner and auditor reads a materialized view
-- section: 2.6
-- law: CANON-PERSISTENCE-001 §4.5
-- severity: error
-- means: Row level security does not reach a materialized view: whoever may read it reads all tenants.
-- remedy: REVOKE ALL ON … FROM …; let services read a security-barrier view filtered by tenant.
SELECT c.oid::regclass::text AS object, g.privilege_type || ' for ' || CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS detail
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN LATERAL aclexplode(c.relacl) AS g
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND c.relkind = 'm'
  AND g.grantee <> c.relowner
  AND (g.grantee = 0 OR g.grantee::regrole::text NOT IN ('persistence_owner', 'persistence_auditor'))
UNION ALL
SELECT c.oid::regclass || '.' || a.attname, g.privilege_type || ' for ' || CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid
CROSS JOIN LATERAL aclexplode(a.attacl) AS g
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND c.relkind = 'm'
  AND g.grantee <> c.relowner

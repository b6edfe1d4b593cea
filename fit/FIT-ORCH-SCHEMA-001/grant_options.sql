-- title: No role may pass on what it was granted
-- section: 2.7
-- law: CANON-PERSISTENCE-001 §5.1
-- severity: error
-- means: Rights spread without a migration.
-- remedy: REVOKE GRANT OPTION FOR … ON … FROM …
SELECT c.oid::regclass::text AS object, g.privilege_type || ' with grant option for ' || g.grantee::regrole AS detail
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN LATERAL aclexplode(c.relacl) AS g
WHERE (n.nspname = ANY (string_to_array(:'schemas', ',')) OR n.nspname = 'canon')
  AND g.is_grantable
  AND g.grantee <> c.relowner
UNION ALL
SELECT c.oid::regclass || '.' || a.attname, g.privilege_type || ' with grant option for ' || g.grantee::regrole
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid
CROSS JOIN LATERAL aclexplode(a.attacl) AS g
WHERE (n.nspname = ANY (string_to_array(:'schemas', ',')) OR n.nspname = 'canon')
  AND g.is_grantable
  AND g.grantee <> c.relowner

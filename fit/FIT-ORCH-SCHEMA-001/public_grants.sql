-- title: Nothing of the plane is granted to everybody
-- section: 2.7
-- law: CANON-PERSISTENCE-001 §5.1
-- severity: error
-- means: Every login of the database may use it.
-- remedy: REVOKE ALL ON … FROM PUBLIC.
SELECT c.oid::regclass::text AS object, g.privilege_type || ' for PUBLIC' AS detail
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN LATERAL aclexplode(c.relacl) AS g
WHERE (n.nspname = ANY (string_to_array(:'schemas', ',')) OR n.nspname = 'canon')
  AND g.grantee = 0
UNION ALL
SELECT 'schema ' || n.nspname, g.privilege_type || ' for PUBLIC'
FROM pg_namespace AS n
CROSS JOIN LATERAL aclexplode(n.nspacl) AS g
WHERE n.nspname IN ('persistence', 'canon')
  AND g.grantee = 0
UNION ALL
SELECT c.oid::regclass || '.' || a.attname, g.privilege_type || ' for PUBLIC'
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid
CROSS JOIN LATERAL aclexplode(a.attacl) AS g
WHERE (n.nspname = ANY (string_to_array(:'schemas', ',')) OR n.nspname = 'canon')
  AND g.grantee = 0

-- title: Only owner and migrations make objects in the plane's schemas
-- section: 2.7
-- law: CANON-PERSISTENCE-001 §5.2
-- severity: error
-- means: Whoever may create in the schema can put a function or table before ours.
-- remedy: REVOKE CREATE ON SCHEMA … FROM …
SELECT 'schema ' || n.nspname AS object, 'CREATE for ' || CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS detail
FROM pg_namespace AS n
CROSS JOIN LATERAL aclexplode(n.nspacl) AS g
WHERE n.nspname IN ('persistence', 'canon')
  AND g.privilege_type = 'CREATE'
  AND g.grantee <> n.nspowner
  AND (g.grantee = 0 OR g.grantee::regrole::text <> 'persistence_owner')

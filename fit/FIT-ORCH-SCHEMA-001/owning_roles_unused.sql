-- title: No service can act as persistence_owner or persistence_system
-- section: 2.7
-- law: CANON-PERSISTENCE-001 §5.3
-- severity: error
-- means: The login can change the schema, or work across tenants.
-- remedy: REVOKE persistence_owner, persistence_system FROM …
SELECT l.rolname::text AS object, 'member of ' || o.rolname AS detail
FROM pg_roles AS l
CROSS JOIN pg_roles AS o
WHERE o.rolname IN ('persistence_owner', 'persistence_system')
  AND l.oid <> o.oid
  AND NOT l.rolsuper
  AND pg_has_role(l.oid, o.oid, 'MEMBER')
  AND (
    pg_has_role(l.oid, o.oid, 'USAGE')
    OR pg_has_role(l.oid, 'persistence_app', 'USAGE')
    OR pg_has_role(l.oid, 'persistence_worker', 'USAGE')
  )

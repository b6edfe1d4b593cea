-- title: No login both serves and audits
-- section: 2.7
-- law: CANON-PERSISTENCE-001 §5.4
-- severity: error
-- means: The auditor's policy shows all tenants: a service with it has lost the database's wall.
-- remedy: REVOKE persistence_auditor FROM …, and give the audit a login of its own.
SELECT l.rolname::text AS object, 'has persistence_app and persistence_auditor' AS detail
FROM pg_roles AS l
WHERE l.rolcanlogin
  AND NOT l.rolsuper
  AND pg_has_role(l.oid, 'persistence_app', 'USAGE, SET')
  AND pg_has_role(l.oid, 'persistence_auditor', 'USAGE, SET')

-- title: The gates are run by an ordinary login
-- section: 2.7
-- law: CANON-PERSISTENCE-001 §5.3
-- severity: error
-- means: A superuser sees past every rule, so what it finds in order proves little, and it may change what it looks at.
-- remedy: Set PERSISTENCE_AUDIT_DSN to a login that has persistence_auditor and nothing else.
SELECT r.rolname::text AS object, CASE WHEN r.rolsuper THEN 'SUPERUSER' ELSE 'BYPASSRLS' END AS detail
FROM pg_roles AS r
WHERE r.rolname = current_user
  AND (r.rolsuper OR r.rolbypassrls)

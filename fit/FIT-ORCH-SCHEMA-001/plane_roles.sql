-- title: The plane's roles are groups without powers of their own
-- section: 2.7
-- law: CANON-PERSISTENCE-001 §5.3
-- severity: error
-- means: Every member of the role is let past row level security, or can log in as it, or make roles.
-- remedy: ALTER ROLE … NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION.
SELECT r.rolname::text AS object, concat_ws(', ',
    CASE WHEN r.rolsuper THEN 'SUPERUSER' END,
    CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END,
    CASE WHEN r.rolcanlogin THEN 'LOGIN' END,
    CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,
    CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
    CASE WHEN r.rolreplication THEN 'REPLICATION' END
  ) AS detail
FROM pg_roles AS r
WHERE r.rolname LIKE 'persistence\_%'
  AND r.rolname IN ('persistence_owner', 'persistence_system', 'persistence_app', 'persistence_worker', 'persistence_operator', 'persistence_auditor')
  AND (r.rolsuper OR r.rolbypassrls OR r.rolcanlogin OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication)

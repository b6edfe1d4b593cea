-- title: No other policy lets rows through, but the auditor's reading, the system's work and that of the plane's own functions
-- section: 2.6
-- law: CANON-PERSISTENCE-001 §4.4
-- severity: error
-- means: Policies are added up: one that is too wide opens the wall for the roles that it names.
-- remedy: DROP POLICY … ON …
SELECT c.oid::regclass::text AS object, 'policy ' || p.polname || ' for ' || array_to_string(p.polroles::regrole[], ', ') || ' USING ' || coalesce(regexp_replace(pg_get_expr(p.polqual, p.polrelid), '\s+', ' ', 'g'), '') AS detail
FROM pg_policy AS p
JOIN pg_class AS c ON c.oid = p.polrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND p.polpermissive
  AND p.polname <> 'tenant_isolation'
  AND NOT (p.polcmd = 'r' AND p.polroles = ARRAY(SELECT r.oid FROM pg_roles AS r WHERE r.rolname = 'persistence_auditor'))
  AND NOT (p.polroles = ARRAY(SELECT r.oid FROM pg_roles AS r WHERE r.rolname = 'persistence_system'))
  AND NOT (
    p.polname = 'functions_work'
    AND p.polroles = ARRAY(SELECT r.oid FROM pg_roles AS r WHERE r.rolname = 'persistence_owner')
    AND p.polwithcheck IS NULL
    AND regexp_replace(pg_get_expr(p.polqual, p.polrelid), '\s+', '', 'g') = (
      SELECT regexp_replace(r.value ->> CASE WHEN c.relname = 'user_tenants' THEN 'functions_membership' ELSE 'functions_work' END, '\s+', '', 'g')
      FROM canon.rules AS r
      WHERE r.name = 'policies'
    )
  )

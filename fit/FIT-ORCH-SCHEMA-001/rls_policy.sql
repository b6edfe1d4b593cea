-- title: Every table has the policy tenant_isolation, for all commands of all who log in as services and operators, as the canon words it
-- section: 2.6
-- law: CANON-PERSISTENCE-001 §4.4
-- severity: error
-- means: The database's wall is missing, or has another shape than the one that is tested.
-- remedy: DROP POLICY tenant_isolation ON …, and make it again as migrations/sql/policies has it.
SELECT c.oid::regclass::text AS object, coalesce(
  'for ' || array_to_string(p.polroles::regrole[], ', ') || ' USING ' || regexp_replace(pg_get_expr(p.polqual, p.polrelid), '\s+', ' ', 'g') || coalesce(' WITH CHECK ' || pg_get_expr(p.polwithcheck, p.polrelid), ''),
  'no policy tenant_isolation'
) AS detail
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_policy AS p ON p.polrelid = c.oid AND p.polname = 'tenant_isolation'
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND c.relkind IN ('r', 'p')
  AND (
    p.oid IS NULL
    OR p.polcmd <> '*'
    OR ARRAY(SELECT r.rolname FROM pg_roles AS r WHERE r.oid = ANY (p.polroles) ORDER BY r.rolname) <> '{persistence_app,persistence_operator}'
    OR NOT p.polpermissive
    OR p.polwithcheck IS NOT NULL
    OR regexp_replace(pg_get_expr(p.polqual, p.polrelid), '\s+', '', 'g') <> (
      SELECT regexp_replace(r.value ->> CASE WHEN c.relname = 'user_tenants' THEN 'membership' ELSE 'tenant_isolation' END, '\s+', '', 'g')
      FROM canon.rules AS r
      WHERE r.name = 'policies'
    )
  )

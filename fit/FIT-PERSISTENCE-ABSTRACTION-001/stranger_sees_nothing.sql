-- title: A user who belongs to no tenant sees no rows, whatever tenant is entered
-- section: 7.1
-- law: CANON-PERSISTENCE-001 §4.4
-- severity: error
-- as: service
-- means: Policies look at the tenant but not at who asks for it.
-- remedy: Look at the gate rls_policy; make the policies again as migrations/sql/policies has them.
SELECT c.oid::regclass::text AS object, 'rows are visible to a user without membership' AS detail
FROM (
  SELECT set_config('persistence.tenant_id', :'tenant', true), set_config('persistence.user_id', 'ffffffff-ffff-7fff-bfff-ffffffffffff', true)
  OFFSET 0
) AS entered
CROSS JOIN pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND c.relkind IN ('r', 'p', 'v', 'm')
  AND has_table_privilege(c.oid, 'SELECT')
  -- ts_stat is the catalogue's way to run a query that is only known now
  AND EXISTS (SELECT FROM ts_stat(format('SELECT to_tsvector(''simple'', ''row'') FROM %s LIMIT 1', c.oid::regclass)))

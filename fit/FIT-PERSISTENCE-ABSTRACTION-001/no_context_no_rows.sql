-- title: A service that has entered no tenant sees no rows of any table
-- section: 7.1
-- law: CANON-PERSISTENCE-001 §4.3
-- severity: error
-- as: service
-- means: Row level security does not hold for services: a forgotten WHERE shows one tenant another's rows.
-- remedy: Look at the gates rls_enabled, rls_policy, rls_other_policies, service_logins: one of them says why.
SELECT c.oid::regclass::text AS object, 'rows are visible without a tenant' AS detail
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND c.relkind IN ('r', 'p', 'v', 'm')
  AND has_table_privilege(c.oid, 'SELECT')
  -- ts_stat is the catalogue's way to run a query that is only known now
  AND EXISTS (SELECT FROM ts_stat(format('SELECT to_tsvector(''simple'', ''row'') FROM %s LIMIT 1', c.oid::regclass)))

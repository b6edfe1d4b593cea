-- title: Row level security is enabled on every table
-- section: 2.6
-- law: CANON-PERSISTENCE-001 §4.3
-- severity: error
-- means: Every login that may read the table reads the rows of all tenants.
-- remedy: ALTER TABLE … ENABLE ROW LEVEL SECURITY, with the policy tenant_isolation.
SELECT c.oid::regclass::text AS object, 'row level security is off' AS detail
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND c.relkind IN ('r', 'p')
  AND NOT c.relrowsecurity

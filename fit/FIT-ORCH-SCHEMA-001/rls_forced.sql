-- title: Row level security holds for the owner too
-- section: 2.6
-- law: CANON-PERSISTENCE-001 §4.3
-- severity: error
-- means: Functions and migrations that run as the owner see and change the rows of all tenants.
-- remedy: ALTER TABLE … FORCE ROW LEVEL SECURITY.
SELECT c.oid::regclass::text AS object, 'row level security is not forced' AS detail
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND c.relkind IN ('r', 'p')
  AND NOT c.relforcerowsecurity

-- title: The planner learns nothing of tenants and their words
-- section: 2.6
-- law: CANON-PERSISTENCE-001 §4.5
-- severity: error
-- means: EXPLAIN shows any login how many rows of other tenants have a value that it guesses.
-- remedy: ALTER TABLE … ALTER COLUMN … SET STATISTICS 0; then ANALYZE.
SELECT c.oid::regclass::text || '.' || a.attname AS object, coalesce('a statistics target of ' || nullif(a.attstattarget, -1), 'the default statistics target') AS detail
FROM canon.table_columns AS tc
JOIN pg_class AS c ON c.oid = to_regclass(format('persistence.%I', tc.table_name))
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = tc.column_name
WHERE (tc.column_name = 'tenant_id' OR (tc.type ~ '^(text|varchar|json)' AND tc.column_name <> 'status'))
  AND coalesce(a.attstattarget, -1) <> 0

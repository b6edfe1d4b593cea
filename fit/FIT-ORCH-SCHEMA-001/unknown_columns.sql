-- title: The plane's tables have no columns but those of the canon
-- section: 2.10
-- law: CANON-ORCH-STATE-001 §2.8
-- severity: warning
-- means: A column that the fold does not know cannot be rebuilt from the log.
-- remedy: Add it to canon/tables.yaml and to the fold by a migration, or keep it in a table of your own.
SELECT 'persistence.' || t.table_name || '.' || a.attname AS object, format_type(a.atttypid, a.atttypmod) AS detail
FROM canon.tables AS t
JOIN pg_attribute AS a ON a.attrelid = to_regclass('persistence.' || t.table_name) AND a.attnum > 0 AND NOT a.attisdropped
WHERE NOT EXISTS (
  SELECT FROM canon.table_columns AS w WHERE w.table_name = t.table_name AND w.column_name = a.attname
)

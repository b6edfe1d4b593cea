-- title: Every column of the canon is there, with its type
-- section: 2.10
-- law: CANON-ORCH-STATE-001 §2.8
-- severity: error
-- means: A table is not what services and functions take it for.
-- remedy: Change it back by a migration, or change the canon and its version with it.
SELECT 'persistence.' || w.table_name || '.' || w.column_name AS object, coalesce('is ' || format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END, 'is missing') AS detail
FROM canon.table_columns AS w
LEFT JOIN pg_attribute AS a
  ON a.attrelid = to_regclass('persistence.' || w.table_name) AND a.attname = w.column_name AND NOT a.attisdropped
WHERE a.attname IS NULL
  OR format_type(a.atttypid, a.atttypmod) <> CASE w.type
    WHEN 'timestamptz' THEN 'timestamp with time zone'
    ELSE replace(w.type, 'varchar', 'character varying')
  END
  OR a.attnotnull <> w.is_not_null

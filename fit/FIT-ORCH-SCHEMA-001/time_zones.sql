-- title: No column holds a time without a time zone
-- section: 2.1
-- law: CANON-ORCH-STATE-001 §2.7
-- severity: error
-- means: What the column says depends on who reads it and where.
-- remedy: ALTER TABLE … ALTER COLUMN … TYPE timestamptz USING … AT TIME ZONE 'UTC'.
SELECT c.oid::regclass || '.' || a.attname AS object, format_type(a.atttypid, a.atttypmod) AS detail
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND c.relkind IN ('r', 'p')
  AND a.atttypid IN ('timestamp'::regtype, 'time'::regtype)

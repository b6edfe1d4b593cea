-- title: Every table has created_at and updated_at, timestamptz NOT NULL
-- section: 2.1
-- law: CANON-ORCH-STATE-001 §2.1
-- severity: error
-- means: Nobody can say when a row came to be, or when it changed last.
-- remedy: ALTER TABLE … ADD COLUMN created_at timestamptz NOT NULL DEFAULT now(), and updated_at likewise.
SELECT c.oid::regclass::text AS object, wanted.name || coalesce(' is ' || format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN '' ELSE ', NULL allowed' END, ' is missing') AS detail
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN (VALUES ('created_at'), ('updated_at')) AS wanted (name)
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = wanted.name AND NOT a.attisdropped
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND c.relkind IN ('r', 'p')
  AND (a.attname IS NULL OR a.atttypid <> 'timestamptz'::regtype OR NOT a.attnotnull)

-- title: No table is foreign, temporary by nature, or empty after a crash that the canon says is kept
-- section: 2.6
-- law: CANON-PERSISTENCE-001 §8.1
-- severity: error
-- means: An unlogged table is emptied by a crash; a foreign one knows no row level security.
-- remedy: ALTER TABLE … SET LOGGED; keep foreign tables in another schema.
SELECT c.oid::regclass::text AS object, CASE c.relkind WHEN 'f' THEN 'foreign table' ELSE 'unlogged' END AS detail
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN canon.tables AS t ON t.table_name = c.relname AND n.nspname = 'persistence'
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND (c.relkind = 'f' OR (c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 'p' AND t.is_kept IS NOT false))

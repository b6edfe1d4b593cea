-- title: The foreign keys of the canon are there
-- section: 2.4
-- law: CANON-ORCH-STATE-001 §2.4
-- severity: error
-- means: Rows can lose the row they belong to.
-- remedy: Find the orphans (FIT-DATA-QUALITY-001), then add the key as canon/tables.yaml has it.
SELECT 'persistence.' || w.table_name AS object, w.key_name || ' (' || array_to_string(w.columns, ', ') || ') to ' || w.refers_to || ' is missing' AS detail
FROM canon.table_keys AS w
WHERE w.kind = 'foreign key'
  AND NOT EXISTS (
    SELECT
    FROM pg_constraint AS k
    WHERE k.contype = 'f'
      AND k.conrelid = to_regclass('persistence.' || w.table_name)
      AND k.confrelid = to_regclass('persistence.' || w.refers_to)
      AND w.columns = ARRAY(
        SELECT a.attname::text
        FROM unnest(k.conkey) WITH ORDINALITY AS u (attnum, position)
        JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.attnum
        ORDER BY u.position
      )
  )

-- title: Every index of the canon is there, whole and valid
-- section: 2.10
-- law: CANON-PERSISTENCE-001 §6.2
-- severity: error
-- means: A common query reads a whole table, or an index that a failed CREATE INDEX CONCURRENTLY left behind is kept for nothing.
-- remedy: DROP INDEX CONCURRENTLY where it is invalid, and make it again as canon/tables.yaml has it.
SELECT 'persistence.' || w.key_name AS object, 'on ' || w.table_name || ' (' || array_to_string(w.columns, ', ') || ') is missing or invalid' AS detail
FROM canon.table_keys AS w
WHERE w.kind = 'index'
  AND NOT EXISTS (
    SELECT
    FROM pg_index AS i
    JOIN pg_class AS x ON x.oid = i.indexrelid
    JOIN pg_am AS m ON m.oid = x.relam
    WHERE i.indrelid = to_regclass('persistence.' || w.table_name)
      AND i.indisvalid
      AND m.amname = w.method
      AND (i.indpred IS NOT NULL) = (w.predicate IS NOT NULL)
      AND w.columns = ARRAY(
        SELECT a.attname::text
        FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS u (attnum, position)
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
        ORDER BY u.position
      )
  )

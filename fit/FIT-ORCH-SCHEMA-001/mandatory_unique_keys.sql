-- title: The unique keys of the canon are there: sources of signals, idempotency keys, versions of aggregates
-- section: 2.5
-- law: CANON-EVENTS-001 §6.1
-- severity: error
-- means: The same thing can be recorded twice: a signal, an effect, or two events in one place.
-- remedy: Find the duplicates, decide which one stays, and add the key as canon/tables.yaml has it.
SELECT 'persistence.' || k.table_name AS object, k.key_name || ' (' || array_to_string(k.columns, ', ') || ') is missing' AS detail
FROM canon.table_keys AS k
WHERE k.kind = 'unique'
  AND NOT EXISTS (
    SELECT
    FROM pg_index AS i
    WHERE i.indrelid = to_regclass('persistence.' || k.table_name)
      AND i.indisunique
      AND i.indisvalid
      AND i.indpred IS NULL
      AND k.columns = ARRAY(
        SELECT a.attname::text
        FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS u (attnum, position)
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
        ORDER BY u.position
      )
  )

-- title: Every foreign key is served by an index
-- section: 2.4
-- law: CANON-PERSISTENCE-001 §6.2
-- severity: error
-- means: Looking for the rows that belong to one reads the whole table.
-- remedy: CREATE INDEX CONCURRENTLY on the columns of the key.
SELECT k.conname AS object, 'of ' || k.conrelid::regclass || ' has no index on its columns' AS detail
FROM pg_constraint AS k
JOIN pg_class AS c ON c.oid = k.conrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND k.contype = 'f'
  AND NOT EXISTS (
    SELECT
    FROM pg_index AS i
    WHERE i.indrelid = k.conrelid
      AND i.indisvalid
      AND (i.indkey::smallint[])[0 : cardinality(k.conkey) - 1] @> k.conkey
      -- an index of the rows that have the value serves as well
      AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) ~ '^\(\w+ IS NOT NULL\)$')
  )

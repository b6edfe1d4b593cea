-- title: No foreign key deletes or empties what it points from, but those of lists of work
-- section: 2.4
-- law: CANON-ORCH-STATE-001 §2.4
-- severity: error
-- means: Deleting one row would silently delete or change others, without an event.
-- remedy: Make the key again without ON DELETE and ON UPDATE actions.
SELECT k.conname AS object, 'of ' || k.conrelid::regclass || ': ' || pg_get_constraintdef(k.oid) AS detail
FROM pg_constraint AS k
JOIN pg_class AS c ON c.oid = k.conrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND k.contype = 'f'
  AND (k.confdeltype NOT IN ('a', 'r') OR k.confupdtype NOT IN ('a', 'r'))
  AND NOT EXISTS (
    SELECT
    FROM canon.table_keys AS w
    WHERE w.kind = 'foreign key'
      AND w.on_delete = 'cascade'
      AND k.confupdtype = 'a'
      AND k.conrelid = to_regclass('persistence.' || w.table_name)
      AND k.confrelid = to_regclass('persistence.' || w.refers_to)
  )

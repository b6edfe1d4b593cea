-- title: Every constraint was checked on all rows, and is enforced
-- section: 2.4
-- law: CANON-PERSISTENCE-001 §5.5
-- severity: error
-- means: Rows may break a constraint that everybody believes in.
-- remedy: ALTER TABLE … VALIDATE CONSTRAINT …, after mending the rows that it names.
SELECT k.conname AS object, 'of ' || k.conrelid::regclass || ' is NOT VALID' AS detail
FROM pg_constraint AS k
JOIN pg_class AS c ON c.oid = k.conrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND NOT k.convalidated

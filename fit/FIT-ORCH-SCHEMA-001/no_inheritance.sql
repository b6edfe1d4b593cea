-- title: No table inherits from one of another schema, or is inherited from there
-- section: 2.6
-- law: CANON-PERSISTENCE-001 §4.5
-- severity: error
-- means: A child read through its parent, or beside it, obeys other policies than one believes.
-- remedy: ALTER TABLE … NO INHERIT …, or DETACH PARTITION.
SELECT i.inhrelid::regclass::text AS object, 'inherits from ' || i.inhparent::regclass AS detail
FROM pg_inherits AS i
JOIN pg_class AS child ON child.oid = i.inhrelid
JOIN pg_class AS parent ON parent.oid = i.inhparent
JOIN pg_namespace AS cn ON cn.oid = child.relnamespace
JOIN pg_namespace AS pn ON pn.oid = parent.relnamespace
WHERE child.relkind IN ('r', 'p', 'f')
  AND (cn.nspname = ANY (string_to_array(:'schemas', ','))) <> (pn.nspname = ANY (string_to_array(:'schemas', ',')))

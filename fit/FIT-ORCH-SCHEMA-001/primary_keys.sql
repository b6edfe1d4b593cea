-- title: Every table has a primary key, of UUIDs
-- section: 2.3
-- law: CANON-ORCH-STATE-001 §2.3
-- severity: error
-- means: Rows cannot be named, or their names can be guessed and collide between tenants.
-- remedy: Make the primary key (tenant_id, id), both uuid.
SELECT c.oid::regclass::text AS object, coalesce(a.attname || ' of the primary key is ' || format_type(a.atttypid, a.atttypmod), 'no primary key') AS detail
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_constraint AS k ON k.conrelid = c.oid AND k.contype = 'p'
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = ANY (k.conkey)
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND c.relkind IN ('r', 'p')
  AND (k.oid IS NULL OR a.atttypid <> 'uuid'::regtype)

-- title: Every foreign key begins with tenant_id on both sides
-- section: 2.4
-- law: CANON-PERSISTENCE-001 §4.2
-- severity: error
-- means: Foreign key checks see past row level security: without tenant_id in it, one tenant's row can point at another's, or probe for it.
-- remedy: Drop the key and make it again as FOREIGN KEY (tenant_id, …) REFERENCES … (tenant_id, …).
SELECT k.conname AS object, 'of ' || k.conrelid::regclass || ' points from ' || a.attname || ' to ' || r.attname AS detail
FROM pg_constraint AS k
JOIN pg_class AS c ON c.oid = k.conrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
JOIN pg_attribute AS r ON r.attrelid = k.confrelid AND r.attnum = k.confkey[1]
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND k.contype = 'f'
  AND (a.attname <> 'tenant_id' OR r.attname <> 'tenant_id')

-- title: Every primary and unique key begins with tenant_id
-- section: 2.3
-- law: CANON-PERSISTENCE-001 §4.2
-- severity: error
-- means: A key that spans tenants tells one of them what another has, and cannot be sharded.
-- remedy: Drop the key and make it again with tenant_id first.
SELECT i.indexrelid::regclass::text AS object, 'of ' || c.oid::regclass || ' begins with ' || coalesce(a.attname, 'an expression') AS detail
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND i.indisunique
  AND a.attname IS DISTINCT FROM 'tenant_id'

-- title: Every table has tenant_id uuid NOT NULL
-- section: 2.1
-- law: CANON-PERSISTENCE-001 §4.1
-- severity: error
-- means: Rows of this table belong to nobody, so neither wall between tenants can hold them.
-- remedy: ALTER TABLE … ADD COLUMN tenant_id uuid, fill it from the row's parent, SET NOT NULL, and lead the primary key by it.
SELECT c.oid::regclass::text AS object, coalesce('tenant_id is ' || format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN '' ELSE ', NULL allowed' END, 'no tenant_id') AS detail
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND c.relkind IN ('r', 'p')
  AND (a.attname IS NULL OR a.atttypid <> 'uuid'::regtype OR NOT a.attnotnull)

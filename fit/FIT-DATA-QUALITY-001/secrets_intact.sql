-- title: A secret is sealed as the log recorded, by a key that is held
-- section: 2.4
-- law: CANON-VAULT-001 §3.1
-- severity: error
-- means: Whoever reads it would get another value, or none.
-- remedy: Set it again: persistence secret set.
SELECT
  'secrets ' || s.id AS object,
  CASE
    WHEN s.status = 'DESTROYED' THEN 'destroyed, but its sealed value is still there'
    WHEN s.sealed IS NULL THEN 'its sealed value is gone'
    WHEN k.status IS DISTINCT FROM 'ACTIVE' OR k.subject <> '' THEN 'its key ' || s.key_id || ' is gone, or is not one of secrets'
    ELSE 'its sealed value is another'
  END AS detail
FROM persistence.secrets AS s
LEFT JOIN persistence.data_keys AS k ON k.tenant_id = s.tenant_id AND k.id = s.key_id
WHERE persistence.in_sample(s.id, :sample)
  AND CASE s.status
    WHEN 'HELD' THEN encode(sha256(convert_to(s.sealed, 'UTF8')), 'hex') IS DISTINCT FROM s.digest OR k.status IS DISTINCT FROM 'ACTIVE' OR k.subject <> ''
    ELSE s.sealed IS NOT NULL
  END

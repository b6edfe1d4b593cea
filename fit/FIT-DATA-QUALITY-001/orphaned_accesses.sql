-- title: What was read of the vault exists
-- section: 2.1
-- law: CANON-VAULT-001 §3.2
-- severity: error
-- means: Nobody can say what was read.
-- remedy: Compare with the log (persistence replay --verify), and restore the missing row: persistence replay --rebuild secrets.
SELECT 'vault_accesses ' || a.id AS object, coalesce('no secret ' || a.secret_id, 'no key ' || a.key_id, 'of nothing') AS detail
FROM persistence.vault_accesses AS a
LEFT JOIN persistence.secrets AS s ON s.tenant_id = a.tenant_id AND s.id = a.secret_id
LEFT JOIN persistence.data_keys AS k ON k.tenant_id = a.tenant_id AND k.id = a.key_id
WHERE a.updated_at >= :'since'
  AND s.id IS NULL
  AND k.id IS NULL

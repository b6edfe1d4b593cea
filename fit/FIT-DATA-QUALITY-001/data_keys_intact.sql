-- title: A key is wrapped as the log recorded, and one that was destroyed is gone
-- section: 2.4
-- law: CANON-VAULT-001 §2.1
-- severity: error
-- means: What it sealed cannot be opened any more, or can be although it was erased.
-- remedy: Take a key that is lost from a backup. Erase again what was to be erased: persistence erase --subject.
SELECT
  'data_keys ' || k.id AS object,
  CASE WHEN k.status = 'DESTROYED' THEN 'destroyed, but it is still there' WHEN k.sealed IS NULL THEN 'it is gone' ELSE 'it is another' END AS detail
FROM persistence.data_keys AS k
WHERE persistence.in_sample(k.id, :sample)
  AND CASE k.status
    WHEN 'ACTIVE' THEN encode(sha256(convert_to(k.sealed, 'UTF8')), 'hex') IS DISTINCT FROM k.digest
    ELSE k.sealed IS NOT NULL
  END

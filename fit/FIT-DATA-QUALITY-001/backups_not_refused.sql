-- title: The newest backup that was tried was good
-- section: 2.7
-- law: CANON-PERSISTENCE-001 §8.2
-- severity: error
-- means: The newest backup cannot be restored, or what came out of it breaks the law.
-- remedy: persistence backup list says why; make a new one, and find out what became of the old.
SELECT 'backup ' || b.backup_label AS object, 'refused ' || b.verified_at || ': ' || coalesce(b.error_details ->> 'message', '') AS detail
FROM persistence.backup_verifications AS b
WHERE b.status = 'REFUSED'
  AND b.verified_at >= (SELECT max(x.verified_at) FROM persistence.backup_verifications AS x)

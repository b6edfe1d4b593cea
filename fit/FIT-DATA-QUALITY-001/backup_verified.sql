-- title: A backup was verified within 30 days
-- section: 2.7
-- law: CANON-PERSISTENCE-001 §8.2
-- severity: error
-- means: Whether the data could be restored is a matter of faith.
-- remedy: persistence backup create, then persistence backup verify. A log younger than 30 days needs none yet.
SELECT 'persistence.backup_verifications' AS object, coalesce('the last good one is of ' || v.latest, 'none was ever verified') AS detail
FROM (SELECT max(b.verified_at) AS latest FROM persistence.backup_verifications AS b WHERE b.status = 'VERIFIED') AS v
WHERE (v.latest IS NULL OR v.latest < now() - interval '30 days')
  AND EXISTS (SELECT FROM persistence.orchestration_events AS e WHERE e.created_at < now() - interval '30 days')

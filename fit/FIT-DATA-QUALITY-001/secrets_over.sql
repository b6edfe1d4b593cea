-- title: What is over is destroyed
-- section: 2.5
-- law: CANON-VAULT-001 §3.3
-- severity: warning
-- means: Sealed values are kept that nobody may read any more.
-- remedy: persistence housekeeping destroys them; let it run every day.
SELECT 'secrets ' || s.id AS object, format('version %s of %L is over since %s', s.number, s.name, s.expires_at) AS detail
FROM persistence.secrets AS s
WHERE s.sealed IS NOT NULL
  AND s.expires_at < now() - interval '7 days'

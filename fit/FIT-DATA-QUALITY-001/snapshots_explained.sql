-- title: A snapshot that was refused says why
-- section: 2.7
-- law: CANON-ORCH-STATE-001 §11.1
-- severity: error
-- means: Nobody can say what is wrong with it.
-- remedy: Compare with the log (persistence replay --verify), and restore the row: persistence replay --rebuild snapshots.
SELECT 'snapshots ' || s.id AS object, CASE WHEN s.status = 'REFUSED' THEN 'refused without a reason' ELSE 'is of no position: ' || s.position END AS detail
FROM persistence.snapshots AS s
WHERE s.updated_at >= :'since'
  AND (
    (s.status = 'REFUSED' AND s.error_details IS NULL)
    OR s.position !~ '^[0-9]+-[0-9]+-[0-9]+$'
  )

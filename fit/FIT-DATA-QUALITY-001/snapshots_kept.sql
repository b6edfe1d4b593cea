-- title: The last verified snapshot of everything is still there
-- section: 2.7
-- law: CANON-ORCH-STATE-001 §11.2
-- severity: error
-- means: There is no snapshot left that is known to be good.
-- remedy: persistence snapshot take, then persistence snapshot verify.
SELECT
  format('snapshots of %s of tenant %s', concat_ws(' ', s.snapshot_kind, s.subject), s.tenant_id) AS object,
  'those that were verified are deleted' AS detail
FROM persistence.snapshots AS s
WHERE s.verified_at IS NOT NULL
GROUP BY s.tenant_id, s.snapshot_kind, s.subject
HAVING bool_and(s.status = 'DELETED' AND s.error_details IS NULL)

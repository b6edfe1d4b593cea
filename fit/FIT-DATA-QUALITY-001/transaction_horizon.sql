-- title: No event of this epoch comes from a transaction that is still to be
-- section: 2.2
-- law: CANON-EVENTS-001 §2.4
-- severity: error
-- means: The log was restored into a cluster with younger transaction ids and no new epoch: readers wait for ever, or skip.
-- remedy: SELECT persistence.log_epoch() as a service; it opens an epoch when the cluster is another.
SELECT 'event ' || e.id AS object, 'of transaction ' || e.transaction_id AS detail
FROM persistence.orchestration_events AS e TABLESAMPLE SYSTEM (:sample)
WHERE e.created_at >= :'since'
  AND e.transaction_id >= pg_snapshot_xmax(pg_current_snapshot())
  AND e.sequence_number >= (SELECT max(l.first_sequence_number) FROM canon.log_epochs AS l)

-- title: No consumer stands where the log has not come to
-- section: 2.5
-- law: CANON-TRACE-001 §6.3
-- severity: error
-- means: Events that come until the log is there are never given to it.
-- remedy: persistence streams consumer remove, and subscribe again from the position that it had dealt with.
SELECT
  format('consumers %s of tenant %s', c.id, c.tenant_id) AS object,
  format('%s is at %s-%s-%s; the log is in epoch %s before transaction %s', c.name, c.epoch, c.transaction_id, c.sequence_number, present.epoch, pg_snapshot_xmax(pg_current_snapshot())) AS detail
FROM persistence.consumers AS c
CROSS JOIN (SELECT max(l.epoch) AS epoch FROM canon.log_epochs AS l) AS present
WHERE c.epoch > present.epoch
  OR (c.epoch = present.epoch AND c.transaction_id >= pg_snapshot_xmax(pg_current_snapshot()))

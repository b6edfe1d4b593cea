-- title: Within an aggregate, sequence numbers rise with versions
-- section: 2.2
-- law: CANON-EVENTS-001 §2.2
-- severity: error
-- means: Readers by sequence number see the aggregate's events in another order than they happened in.
-- remedy: Rebuild what read the log in this order; find out who wrote past append_events.
SELECT e.aggregate_type || ' ' || e.aggregate_id AS object, 'version ' || e.aggregate_version || ' has sequence number ' || e.sequence_number || ', the one before it ' || e.previous AS detail
FROM (
  SELECT x.*, lag(x.sequence_number) OVER (PARTITION BY x.tenant_id, x.aggregate_id ORDER BY x.aggregate_version) AS previous
  FROM (
    SELECT x.tenant_id, x.aggregate_id, x.aggregate_type, x.aggregate_version, x.sequence_number
    FROM persistence.orchestration_events AS x
    WHERE persistence.in_sample(x.aggregate_id, :sample)
      AND (x.tenant_id, x.aggregate_id) IN (SELECT late.tenant_id, late.aggregate_id FROM persistence.orchestration_events AS late WHERE late.created_at >= :'since')  -- since
  ) AS x
) AS e
WHERE e.previous >= e.sequence_number

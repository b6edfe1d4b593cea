-- Gives runs of flows a reason to go on: one that waits is due; one that an executor has is due again if it would wait without having seen this.
-- Runs that are no flow's, or have ended, are left alone.
CREATE FUNCTION persistence.wake_runs(tenant_ids uuid[], run_ids uuid[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
  key_tenants uuid[];
  keys text[];
BEGIN
  SELECT array_agg(r.tenant_id), array_agg(r.ordering_key)
  INTO key_tenants, keys
  FROM unnest(tenant_ids, run_ids) AS g (tenant_id, id)
  JOIN runs AS r ON r.tenant_id = g.tenant_id AND r.id = g.id
  WHERE r.flow_version IS NOT NULL
    AND r.ordering_key IS NOT NULL
    AND r.status IN ('PENDING', 'RUNNING', 'WAITING')
    AND NOT EXISTS (SELECT FROM run_queue AS q WHERE q.tenant_id = r.tenant_id AND q.id = r.id);
  IF keys IS NOT NULL THEN
    PERFORM lock_keys(key_tenants, keys);
  END IF;
  INSERT INTO run_queue AS q (tenant_id, id, flow, flow_version, due_at, wakes, priority, ordering_key, position, held_by)
  SELECT
    r.tenant_id, r.id, r.run_type, r.flow_version, CASE WHEN r.ordering_key IS NULL THEN now() ELSE 'infinity' END, 1, coalesce(r.priority, 0), r.ordering_key,
    CASE WHEN r.ordering_key IS NOT NULL THEN (
      SELECT e.sequence_number
      FROM orchestration_events AS e
      WHERE e.tenant_id = r.tenant_id
        AND e.aggregate_id = r.id
        AND e.aggregate_version = 1
    ) END,
    CASE WHEN r.ordering_key IS NOT NULL THEN 'KEY' END
  FROM (SELECT DISTINCT g.tenant_id, g.id FROM unnest(tenant_ids, run_ids) AS g (tenant_id, id)) AS g
  JOIN runs AS r ON r.tenant_id = g.tenant_id AND r.id = g.id
  WHERE r.flow_version IS NOT NULL
    AND r.status IN ('PENDING', 'RUNNING', 'WAITING')
  ORDER BY r.tenant_id, r.id
  ON CONFLICT ON CONSTRAINT run_queue_pkey DO UPDATE
  SET
    wakes = q.wakes + 1,
    due_at = CASE WHEN q.held_by = 'WAIT' THEN now() ELSE q.due_at END,
    held_by = nullif(q.held_by, 'WAIT'),
    updated_at = now();
  IF keys IS NOT NULL THEN
    PERFORM open_runs(key_tenants, keys);
  END IF;
  IF coalesce(current_setting('persistence.leases', true), '') = '' THEN  -- executors tell one another after their commit
    PERFORM pg_notify('persistence_flows', '');
  END IF;
END
$$;

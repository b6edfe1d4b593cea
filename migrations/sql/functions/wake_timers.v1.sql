-- Wakes runs of flows whose time has come since the moment given, at most `most` of them. Returns how many were woken, and when the next is due.
CREATE FUNCTION persistence.wake_timers(since timestamptz, most integer, OUT woken integer, OUT next_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
  tenants uuid[];
  ids uuid[];
BEGIN
  SELECT array_agg(t.tenant_id), array_agg(t.run_id)
  INTO tenants, ids
  FROM (
    SELECT DISTINCT d.tenant_id, d.run_id
    FROM (
      SELECT s.tenant_id, s.run_id
      FROM steps AS s
      JOIN runs AS r ON r.tenant_id = s.tenant_id AND r.id = s.run_id
      WHERE s.wait_until >= since
        AND s.wait_until <= now()
        AND r.status IN ('PENDING', 'RUNNING', 'WAITING')
        AND NOT EXISTS (
          SELECT
          FROM run_queue AS q
          WHERE q.tenant_id = s.tenant_id
            AND q.id = s.run_id
            AND q.held_by IS NULL
        )
      ORDER BY s.wait_until
      LIMIT most
    ) AS d
  ) AS t;
  woken := coalesce(cardinality(ids), 0);
  IF woken > 0 THEN
    PERFORM wake_runs(tenants, ids);
  END IF;
  next_at := (SELECT min(s.wait_until) FROM steps AS s WHERE s.wait_until > now());
END
$$;

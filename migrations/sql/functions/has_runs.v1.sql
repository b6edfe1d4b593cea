-- Whether runs of these flows, side by side with their versions, are due or with an executor; with `waiting`, also whether some come due by a time.
CREATE FUNCTION persistence.has_runs(flows text[], flow_versions integer[], waiting boolean) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
  SELECT EXISTS (
    SELECT
    FROM unnest(flows, flow_versions) AS g (flow, flow_version)
    JOIN run_queue AS q ON q.flow = g.flow AND q.flow_version = g.flow_version
    WHERE q.held_by IS NULL
      AND (waiting OR q.due_at <= now() OR q.lease_token IS NOT NULL)
  ) OR (
    waiting AND EXISTS (
      SELECT
      FROM steps AS s
      JOIN runs AS r ON r.tenant_id = s.tenant_id AND r.id = s.run_id
      JOIN unnest(flows, flow_versions) AS g (flow, flow_version) ON g.flow = r.run_type AND g.flow_version = r.flow_version
      WHERE s.wait_until IS NOT NULL
        AND r.status IN ('PENDING', 'RUNNING', 'WAITING')
    )
  )
$$;

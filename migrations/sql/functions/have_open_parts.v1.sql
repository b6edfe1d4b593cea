-- Whether something that is open belongs to one of these runs or steps: see open_parts.
CREATE FUNCTION persistence.have_open_parts(tenant_id uuid, run_ids uuid[], step_ids uuid[]) RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
  RETURN EXISTS (
    SELECT
    FROM steps AS s
    WHERE s.tenant_id = have_open_parts.tenant_id
      AND s.run_id = ANY (run_ids)
      AND s.status IN ('PENDING', 'RUNNING', 'WAITING')
  ) OR EXISTS (
    SELECT
    FROM tool_calls AS c
    WHERE c.tenant_id = have_open_parts.tenant_id
      AND c.run_id = ANY (run_ids)
      AND c.status IN ('PENDING', 'RUNNING')
  ) OR EXISTS (
    SELECT
    FROM tool_calls AS c
    WHERE c.tenant_id = have_open_parts.tenant_id
      AND c.step_id = ANY (step_ids)
      AND c.status IN ('PENDING', 'RUNNING')
  ) OR EXISTS (
    SELECT
    FROM runs AS r
    WHERE r.tenant_id = have_open_parts.tenant_id
      AND r.parent_run_id = ANY (run_ids)
      AND r.status IN ('PENDING', 'RUNNING', 'WAITING')
  );
END
$$;

-- What came of the last run of the gates: how many objects each check found, not which. (They may be of any tenant.)
CREATE FUNCTION persistence.last_gates() RETURNS TABLE (findings jsonb, ran_at timestamptz, actor text)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
  SELECT e.event_data, e.occurred_at, e.actor
  FROM orchestration_events AS e
  WHERE e.tenant_id = system_tenant_id()
    AND e.aggregate_id = system_tenant_id()
    AND e.event_type = 'GATES_RUN'
  ORDER BY e.aggregate_version DESC
  LIMIT 1
$$;

-- The number of an aggregate's first event.
CREATE FUNCTION persistence.begun_at(tenant_id uuid, aggregate_id uuid) RETURNS bigint
LANGUAGE sql STABLE
AS $$
  SELECT e.sequence_number
  FROM persistence.orchestration_events AS e
  WHERE e.tenant_id = begun_at.tenant_id
    AND e.aggregate_id = begun_at.aggregate_id
    AND e.aggregate_version = 1
$$;

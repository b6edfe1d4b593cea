-- Appends an event to the life of a tenant, one at a time: see add_tenant_user.
CREATE FUNCTION persistence.append_tenant_event(tenant_id uuid, event_type text, event_data jsonb, actor text, source text DEFAULT 'operator') RETURNS void
LANGUAGE plpgsql
SET search_path = persistence, pg_temp
AS $$
BEGIN
  PERFORM check_event_data(append_tenant_event.event_type, append_tenant_event.event_data);
  PERFORM check_operator(append_tenant_event.actor);
  INSERT INTO orchestration_events (
    tenant_id, id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
    correlation_id, causation_id, actor, source, occurred_at
  )
  SELECT
    append_tenant_event.tenant_id, new_id(), append_tenant_event.event_type, 1, 'TENANT', append_tenant_event.tenant_id,
    coalesce(latest.aggregate_version, 0) + 1, append_tenant_event.event_data, append_tenant_event.tenant_id, latest.id,
    append_tenant_event.actor, append_tenant_event.source, now()
  FROM (VALUES (1)) AS one
  LEFT JOIN LATERAL (
    SELECT e.id, e.aggregate_version
    FROM orchestration_events AS e
    WHERE e.tenant_id = append_tenant_event.tenant_id
      AND e.aggregate_id = append_tenant_event.tenant_id
    ORDER BY e.aggregate_version DESC
    LIMIT 1
  ) AS latest ON true;
END
$$;

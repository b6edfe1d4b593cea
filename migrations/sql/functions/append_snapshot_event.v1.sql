-- Appends an event of a snapshot that no service may write, and folds it. Granted to nobody.
CREATE FUNCTION persistence.append_snapshot_event(tenant_id uuid, id uuid, event_type text, event_data jsonb, actor text, source text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  batch orchestration_events[];
BEGIN
  PERFORM check_event_data(append_snapshot_event.event_type, append_snapshot_event.event_data);
  PERFORM check_operator(append_snapshot_event.actor);
  PERFORM pg_advisory_xact_lock(plane_lock(append_snapshot_event.id::text));
  WITH inserted AS (
    INSERT INTO orchestration_events AS log (
      tenant_id, id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
      correlation_id, causation_id, actor, source, occurred_at
    )
    SELECT
      append_snapshot_event.tenant_id, new_id(), t.event_type, t.event_version, t.aggregate_type, append_snapshot_event.id, coalesce(s.version, 0) + 1,
      append_snapshot_event.event_data, coalesce(s.correlation_id, append_snapshot_event.id), s.last_event_id, append_snapshot_event.actor,
      append_snapshot_event.source, clock_timestamp()
    FROM canon.event_types AS t
    LEFT JOIN snapshots AS s ON s.tenant_id = append_snapshot_event.tenant_id AND s.id = append_snapshot_event.id
    WHERE t.event_type = append_snapshot_event.event_type
      AND t.is_current
    RETURNING log.*
  )
  SELECT array_agg(i::orchestration_events) INTO batch FROM inserted AS i;
  PERFORM fold_events(batch);
END
$$;

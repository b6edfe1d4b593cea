-- Records, in the log of the system tenant, what became of a snapshot of all there is. event_type: of a snapshot; event_data: see canon.event_types.
-- Granted to nobody: an administrator calls it as persistence_system.
CREATE FUNCTION persistence.record_system_snapshot(id uuid, event_type text, event_data jsonb, actor text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  batch orchestration_events[];
BEGIN
  IF NOT starts_with(record_system_snapshot.event_type, 'SNAPSHOT_') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('%s is no event of a snapshot', event_type),
      HINT = 'SNAPSHOT_TAKEN, SNAPSHOT_VERIFIED, SNAPSHOT_REFUSED …';
  END IF;
  PERFORM check_event_data(record_system_snapshot.event_type, record_system_snapshot.event_data);
  PERFORM check_operator(record_system_snapshot.actor);
  PERFORM pg_advisory_xact_lock(plane_lock(record_system_snapshot.id::text));
  WITH inserted AS (
    INSERT INTO orchestration_events AS log (
      tenant_id, id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
      correlation_id, causation_id, actor, source, occurred_at
    )
    SELECT
      system_tenant_id(), new_id(), t.event_type, t.event_version, t.aggregate_type, record_system_snapshot.id, coalesce(s.version, 0) + 1,
      record_system_snapshot.event_data, record_system_snapshot.id, s.last_event_id, record_system_snapshot.actor, 'snapshots', clock_timestamp()
    FROM canon.event_types AS t
    LEFT JOIN snapshots AS s ON s.tenant_id = system_tenant_id() AND s.id = record_system_snapshot.id
    WHERE t.event_type = record_system_snapshot.event_type
      AND t.is_current
    RETURNING log.*
  )
  SELECT array_agg(i::orchestration_events) INTO batch FROM inserted AS i;
  PERFORM fold_events(batch);
END
$$;

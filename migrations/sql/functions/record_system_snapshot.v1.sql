-- Records, in the log of the system tenant, what became of a snapshot of all there is. event_type: of a snapshot; event_data: see canon.event_types.
-- Granted to nobody: an administrator calls it as persistence_system.
CREATE FUNCTION persistence.record_system_snapshot(id uuid, event_type text, event_data jsonb, actor text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  IF NOT starts_with(record_system_snapshot.event_type, 'SNAPSHOT_') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('%s is no event of a snapshot', event_type),
      HINT = 'SNAPSHOT_TAKEN, SNAPSHOT_VERIFIED, SNAPSHOT_REFUSED …';
  END IF;
  PERFORM append_snapshot_event(
    system_tenant_id(), record_system_snapshot.id, record_system_snapshot.event_type, record_system_snapshot.event_data, record_system_snapshot.actor,
    'snapshots'
  );
END
$$;

-- Records what came of proving a snapshot of a tenant: SNAPSHOT_VERIFIED or SNAPSHOT_REFUSED. By who may see all there is, and so can prove it: what a
-- service says of its own snapshots must not let the last good one go.
CREATE FUNCTION persistence.record_snapshot_proof(tenant_id uuid, id uuid, event_type text, event_data jsonb, actor text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
  IF record_snapshot_proof.event_type IS NULL OR record_snapshot_proof.event_type NOT IN ('SNAPSHOT_VERIFIED', 'SNAPSHOT_REFUSED') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('%s is not what comes of proving a snapshot', record_snapshot_proof.event_type),
      HINT = 'SNAPSHOT_VERIFIED or SNAPSHOT_REFUSED.';
  END IF;
  PERFORM
  FROM snapshots AS s
  WHERE s.tenant_id = record_snapshot_proof.tenant_id
    AND s.tenant_id <> system_tenant_id()
    AND s.id = record_snapshot_proof.id;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE003',
      MESSAGE = format('there is no snapshot %s in tenant %s', record_snapshot_proof.id, record_snapshot_proof.tenant_id),
      HINT = 'persistence snapshot list';
  END IF;
  PERFORM append_snapshot_event(
    record_snapshot_proof.tenant_id, record_snapshot_proof.id, record_snapshot_proof.event_type, record_snapshot_proof.event_data,
    record_snapshot_proof.actor, 'snapshots'
  );
END
$$;

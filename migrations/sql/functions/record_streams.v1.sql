-- Records who began to follow which channels: a list of {token_id, actor, channel, at}.
CREATE FUNCTION persistence.record_streams(tenant_id uuid, user_id uuid, openings jsonb, actor text, proof text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  PERFORM enter_tenant(record_streams.tenant_id, record_streams.user_id, record_streams.proof);
  PERFORM pg_advisory_xact_lock(plane_lock(record_streams.tenant_id::text));
  PERFORM append_tenant_event(
    record_streams.tenant_id, 'TENANT_STREAMS_OPENED', jsonb_build_object('openings', record_streams.openings), record_streams.actor, 'streams'
  );
END
$$;

-- Ends dead letters of a tenant for good. An event records who did it and why. Returns the ids that moved;
-- entries that are no dead letters are left alone.
CREATE FUNCTION persistence.discard_outbox(tenant_id uuid, user_id uuid, ids uuid[], actor text, reason text, proof text DEFAULT NULL) RETURNS uuid[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  PERFORM enter_tenant(discard_outbox.tenant_id, discard_outbox.user_id, proof);
  RETURN end_dead_letters(
    discard_outbox.tenant_id, ids, 'EFFECT_DISCARDED', jsonb_build_object('reason', reason), discard_outbox.actor
  );
END
$$;

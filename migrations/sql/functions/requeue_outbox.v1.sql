-- Puts dead letters of a tenant back into the queue, due at once and with all their attempts. An event records who did it and why. Returns the ids that moved;
-- entries that are no dead letters are left alone.
CREATE FUNCTION persistence.requeue_outbox(tenant_id uuid, user_id uuid, ids uuid[], actor text, reason text, proof text DEFAULT NULL) RETURNS uuid[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  PERFORM enter_tenant(requeue_outbox.tenant_id, requeue_outbox.user_id, proof);
  RETURN end_dead_letters(
    requeue_outbox.tenant_id, ids, 'EFFECT_REQUEUED', jsonb_strip_nulls(jsonb_build_object('retry_count', 0, 'reason', reason)), requeue_outbox.actor
  );
END
$$;

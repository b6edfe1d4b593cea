-- Forgets a consumer and how far he was, and records it. Returns false where there is none such.
CREATE FUNCTION persistence.remove_consumer(tenant_id uuid, user_id uuid, name text, actor text, proof text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  gone consumers;
BEGIN
  PERFORM enter_tenant(remove_consumer.tenant_id, remove_consumer.user_id, remove_consumer.proof);
  PERFORM pg_advisory_xact_lock(plane_lock(remove_consumer.tenant_id::text));
  DELETE FROM consumers AS c
  WHERE c.tenant_id = remove_consumer.tenant_id
    AND c.name = remove_consumer.name
  RETURNING c.* INTO gone;
  IF gone.id IS NULL THEN
    RETURN false;
  END IF;
  PERFORM append_tenant_event(
    gone.tenant_id, 'TENANT_CONSUMER_REMOVED', jsonb_build_object('consumer_id', gone.id, 'name', gone.name), remove_consumer.actor, 'streams'
  );
  RETURN true;
END
$$;

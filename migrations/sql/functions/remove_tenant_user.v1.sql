-- Ends a user's membership of a tenant. Returns false when there was none.
CREATE FUNCTION persistence.remove_tenant_user(tenant_id uuid, user_id uuid, actor text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(plane_lock(remove_tenant_user.tenant_id::text));
  DELETE FROM user_tenants AS ut
  WHERE ut.tenant_id = remove_tenant_user.tenant_id
    AND ut.user_id = remove_tenant_user.user_id;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM append_tenant_event(
    remove_tenant_user.tenant_id, 'TENANT_USER_REMOVED', jsonb_build_object('user_id', remove_tenant_user.user_id), remove_tenant_user.actor
  );
  RETURN true;
END
$$;

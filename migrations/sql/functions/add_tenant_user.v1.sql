-- Lets a user work for a tenant. Returns false when the user could already.
CREATE FUNCTION persistence.add_tenant_user(tenant_id uuid, user_id uuid, actor text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  PERFORM refuse_system_tenant(add_tenant_user.tenant_id);
  PERFORM pg_advisory_xact_lock(plane_lock(add_tenant_user.tenant_id::text));
  IF NOT EXISTS (SELECT FROM tenants AS t WHERE t.tenant_id = add_tenant_user.tenant_id) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE003',
      MESSAGE = format('there is no tenant %s', add_tenant_user.tenant_id),
      HINT = 'List the tenants with: persistence tenant list';
  END IF;
  INSERT INTO user_tenants (tenant_id, user_id, actor)
  VALUES (add_tenant_user.tenant_id, add_tenant_user.user_id, add_tenant_user.actor)
  ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM append_tenant_event(
    add_tenant_user.tenant_id, 'TENANT_USER_ADDED', jsonb_build_object('user_id', add_tenant_user.user_id), add_tenant_user.actor
  );
  RETURN true;
END
$$;

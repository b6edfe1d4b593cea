-- Lets a user work for a tenant. Returns false when the user could already.
CREATE FUNCTION persistence.add_tenant_user(tenant_id uuid, user_id uuid, actor text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM tenants AS t WHERE t.tenant_id = add_tenant_user.tenant_id) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE003',
      MESSAGE = format('there is no tenant %s', add_tenant_user.tenant_id),
      HINT = 'List the tenants with: persistence tenant list';
  END IF;
  INSERT INTO user_tenants (tenant_id, user_id, actor)
  VALUES (add_tenant_user.tenant_id, add_tenant_user.user_id, add_tenant_user.actor)
  ON CONFLICT DO NOTHING;
  RETURN FOUND;
END
$$;

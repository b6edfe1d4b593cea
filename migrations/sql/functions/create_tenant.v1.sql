-- Makes a tenant with its first user, and returns it. (The system tenant has none.) The same id and name again is no error; a name taken by another tenant is.
CREATE FUNCTION persistence.create_tenant(tenant_id uuid, name text, user_id uuid, actor text) RETURNS persistence.tenants
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
DECLARE
  existing tenants;
BEGIN
  PERFORM pg_advisory_xact_lock(plane_lock('create_tenant'));
  SELECT t.*
  INTO existing
  FROM tenants AS t
  WHERE t.tenant_id = create_tenant.tenant_id OR t.name = create_tenant.name
  ORDER BY t.tenant_id = create_tenant.tenant_id DESC
  LIMIT 1;
  IF existing.tenant_id IS NOT NULL
    AND (existing.tenant_id <> create_tenant.tenant_id OR existing.name <> create_tenant.name)
  THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE004',
      MESSAGE = format('tenant %s is named %L already', existing.tenant_id, existing.name),
      HINT = 'Choose another name, or use the tenant that is there.';
  END IF;
  IF existing.tenant_id IS NULL THEN
    PERFORM append_tenant_event(
      create_tenant.tenant_id, 'TENANT_CREATED', jsonb_build_object('name', create_tenant.name), create_tenant.actor
    );
    INSERT INTO tenants (tenant_id, name, actor)
    VALUES (create_tenant.tenant_id, create_tenant.name, create_tenant.actor);
  END IF;
  IF create_tenant.tenant_id <> system_tenant_id() THEN
    PERFORM add_tenant_user(create_tenant.tenant_id, create_tenant.user_id, create_tenant.actor);
  END IF;
  SELECT t.* INTO existing FROM tenants AS t WHERE t.tenant_id = create_tenant.tenant_id;
  RETURN existing;
END
$$;

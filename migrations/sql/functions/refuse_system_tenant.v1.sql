-- Nobody works for the system tenant: what is in its log is written by functions of the plane.
CREATE FUNCTION persistence.refuse_system_tenant(tenant_id uuid) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
  IF refuse_system_tenant.tenant_id = persistence.system_tenant_id() THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE012',
      MESSAGE = 'tenant_id: nobody belongs to the system tenant',
      HINT = 'It keeps what was done to the whole cluster; an auditor reads it.';
  END IF;
END
$$;

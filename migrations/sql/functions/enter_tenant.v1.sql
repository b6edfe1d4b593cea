-- Makes a tenant the one this transaction works for, in the name of a user who belongs to it. Ends with the transaction.
CREATE FUNCTION persistence.enter_tenant(tenant_id uuid, user_id uuid) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
  PERFORM
    set_config('persistence.tenant_id', coalesce(enter_tenant.tenant_id::text, ''), true),
    set_config('persistence.user_id', coalesce(enter_tenant.user_id::text, ''), true);
  IF NOT EXISTS (
    SELECT FROM persistence.user_tenants AS ut
    WHERE ut.tenant_id = enter_tenant.tenant_id
      AND ut.user_id = enter_tenant.user_id
  ) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE005',
      MESSAGE = format('user %s does not belong to tenant %s', enter_tenant.user_id, enter_tenant.tenant_id),
      HINT = 'Add the user with: persistence tenant add-user TENANT USER';
  END IF;
END
$$;

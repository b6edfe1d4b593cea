-- Makes a tenant the one this transaction works for, in the name of a user who belongs to it, and returns it. Ends with the transaction.
-- proof: see is_proven; NULL: the one that was given before, or none.
CREATE FUNCTION persistence.enter_tenant(tenant_id uuid, user_id uuid, proof text DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql
AS $$
BEGIN
  PERFORM
    set_config('persistence.tenant_id', coalesce(enter_tenant.tenant_id::text, ''), true),
    set_config('persistence.user_id', coalesce(enter_tenant.user_id::text, ''), true);
  IF enter_tenant.proof IS NOT NULL THEN
    PERFORM set_config('persistence.proof', enter_tenant.proof, true);
  END IF;
  IF persistence.entered_tenant() IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE005',
      MESSAGE = format('user %s does not belong to tenant %s, or cannot prove it', enter_tenant.user_id, enter_tenant.tenant_id),
      HINT = 'Add the user with: persistence tenant add-user TENANT USER. Where contexts are signed, set PERSISTENCE_CONTEXT_SECRET.';
  END IF;
  RETURN enter_tenant.tenant_id;
END
$$;

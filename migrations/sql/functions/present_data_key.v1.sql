-- The wrapped key that a tenant's secrets are sealed with now: the one of the last term. It tells nothing without the vault.
CREATE FUNCTION persistence.present_data_key(tenant_id uuid, user_id uuid, proof text DEFAULT NULL)
RETURNS TABLE (key_id uuid, term integer, vault_id uuid, vault_term integer, sealed_key text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  PERFORM enter_tenant(present_data_key.tenant_id, present_data_key.user_id, present_data_key.proof);
  RETURN QUERY
    SELECT k.id, k.term, k.vault_id, k.vault_term, k.sealed
    FROM data_keys AS k
    WHERE k.tenant_id = present_data_key.tenant_id
      AND k.subject = ''
      AND k.status = 'ACTIVE'
    ORDER BY k.term DESC
    LIMIT 1;
END
$$;

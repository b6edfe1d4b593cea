-- Whose token this is, if it is one that holds: not revoked, not expired, of this secret, of a user who still belongs to the tenant. digest: SHA-256 of the secret.
CREATE FUNCTION persistence.authenticate_token(tenant_id uuid, id uuid, digest bytea)
RETURNS TABLE (tenant text, name text, role text, acts_as text, user_id uuid, expires_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
  SELECT tt.name, t.name, t.role, t.acts_as, t.user_id, t.expires_at
  FROM api_tokens AS t
  JOIN tenants AS tt ON tt.tenant_id = t.tenant_id
  WHERE t.tenant_id = authenticate_token.tenant_id
    AND t.id = authenticate_token.id
    AND t.digest = authenticate_token.digest
    AND t.revoked_at IS NULL
    AND coalesce(t.expires_at, 'infinity') > now()
    AND EXISTS (
      SELECT FROM user_tenants AS ut
      WHERE ut.tenant_id = t.tenant_id
        AND ut.user_id = t.user_id
    )
$$;

-- Records a token of a tenant. digest: SHA-256 of its secret. (The event, which
-- readers see, holds the digest of that.) The same id again changes nothing and returns false.
CREATE FUNCTION persistence.issue_token(
  tenant_id uuid, id uuid, name text, role text, acts_as text, user_id uuid, digest bytea, expires_at timestamptz, actor text
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  PERFORM refuse_system_tenant(issue_token.tenant_id);
  PERFORM pg_advisory_xact_lock(plane_lock(issue_token.tenant_id::text));
  IF NOT EXISTS (
    SELECT FROM user_tenants AS ut
    WHERE ut.tenant_id = issue_token.tenant_id
      AND ut.user_id = issue_token.user_id
  ) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE003',
      MESSAGE = format('user %s does not belong to tenant %s', issue_token.user_id, issue_token.tenant_id),
      HINT = 'Add the user with: persistence tenant add-user TENANT USER';
  END IF;
  INSERT INTO api_tokens (tenant_id, id, name, role, acts_as, user_id, digest, expires_at)
  VALUES (
    issue_token.tenant_id, issue_token.id, issue_token.name, issue_token.role, issue_token.acts_as, issue_token.user_id, issue_token.digest,
    issue_token.expires_at
  )
  ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM append_tenant_event(
    issue_token.tenant_id,
    'TENANT_TOKEN_ISSUED',
    jsonb_build_object(
      'token_id', issue_token.id, 'name', issue_token.name, 'role', issue_token.role, 'acts_as', issue_token.acts_as, 'user_id', issue_token.user_id,
      'digest', encode(sha256(issue_token.digest), 'hex'), 'expires_at', issue_token.expires_at
    ),
    issue_token.actor
  );
  RETURN true;
END
$$;

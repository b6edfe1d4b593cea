-- Ends a token for good. Returns false when there is none such, or it was revoked before.
CREATE FUNCTION persistence.revoke_token(tenant_id uuid, id uuid, actor text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(plane_lock(revoke_token.tenant_id::text));
  UPDATE api_tokens AS t
  SET revoked_at = now(), updated_at = now()
  WHERE t.tenant_id = revoke_token.tenant_id
    AND t.id = revoke_token.id
    AND t.revoked_at IS NULL;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM append_tenant_event(
    revoke_token.tenant_id, 'TENANT_TOKEN_REVOKED', jsonb_build_object('token_id', revoke_token.id), revoke_token.actor
  );
  PERFORM pg_notify('persistence_tokens', revoke_token.id::text);  -- those who remember it forget it
  RETURN true;
END
$$;

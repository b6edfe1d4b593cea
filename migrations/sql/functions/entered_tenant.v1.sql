-- The tenant that the present transaction entered, if its user belongs to it and that is proven where it has to be; else NULL. Settings of a session are
-- anybody's to write, so they are only a claim.
CREATE FUNCTION persistence.entered_tenant() RETURNS uuid
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
DECLARE
  claimed uuid := current_tenant_id();
  claimant uuid := current_user_id();
BEGIN
  IF EXISTS (
    SELECT FROM user_tenants AS ut
    WHERE ut.tenant_id = claimed
      AND ut.user_id = claimant
  ) AND is_proven(claimed, claimant) THEN
    RETURN claimed;
  END IF;
  RETURN NULL;
END
$$;

-- The tenant whose rows row level security lets through. The plane's own functions have looked at who enters before they say which tenant; what anybody
-- else says is proven.
CREATE FUNCTION persistence.entered_tenant() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
  SELECT CASE WHEN current_user = 'persistence_owner' THEN persistence.current_tenant_id() ELSE persistence.proven_tenant() END
$$;

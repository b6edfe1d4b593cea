-- The user in whose name services of this installation work unless they say so: random, and told to operators only, who make the tenants that it belongs to.
CREATE FUNCTION persistence.service_user() RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
  SELECT i.service_user FROM canon.installation AS i
$$;

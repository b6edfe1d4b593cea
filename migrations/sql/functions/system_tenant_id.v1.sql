-- The tenant whose log keeps what was done to the whole cluster. Nobody works for it.
CREATE FUNCTION persistence.system_tenant_id() RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT '00000000-0000-7000-8000-000000000000'::uuid
$$;

-- The number of the advisory lock of an ordering key.
CREATE FUNCTION persistence.ordering_key_lock(tenant_id uuid, ordering_key text) RETURNS bigint
LANGUAGE sql STABLE
AS $$
  SELECT persistence.plane_lock(tenant_id || ordering_key)
$$;

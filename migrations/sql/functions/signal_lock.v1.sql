-- The number of the advisory lock of those who wait for a signal, and of those who give it: each of two that come at once sees the other.
CREATE FUNCTION persistence.signal_lock(tenant_id uuid, signal_type text, signal_key text) RETURNS bigint
LANGUAGE sql STABLE
AS $$
  SELECT persistence.plane_lock(tenant_id || ':' || signal_type || ':' || signal_key)
$$;

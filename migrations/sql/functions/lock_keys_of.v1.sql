-- Locks the ordering keys that a batch names (lock_keys).
CREATE FUNCTION persistence.lock_keys_of(tenant_id uuid, events jsonb) RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
  PERFORM lock_keys(array_agg(lock_keys_of.tenant_id), array_agg(e.event #>> '{event_data,ordering_key}'))
  FROM jsonb_array_elements(events) AS e (event);
  RETURN true;
END
$$;

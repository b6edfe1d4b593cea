-- All tenants but the system's, after one, in the order of their ids: for operators, whom row level security shows one at a time.
CREATE FUNCTION persistence.list_tenants(after uuid, most integer) RETURNS SETOF persistence.tenants
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
  SELECT t.*
  FROM tenants AS t
  WHERE (after IS NULL OR t.tenant_id > after)
    AND t.tenant_id <> system_tenant_id()
  ORDER BY t.tenant_id
  LIMIT most
$$;

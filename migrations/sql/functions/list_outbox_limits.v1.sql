-- All limits, those for all tenants together first.
CREATE FUNCTION persistence.list_outbox_limits() RETURNS SETOF persistence.outbox_limits
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
  SELECT l.*
  FROM outbox_limits AS l
  ORDER BY l.tenant_id <> system_tenant_id(), l.tenant_id, l.effect_type
$$;

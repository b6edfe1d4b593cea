-- The tenant of the present transaction, NULL when none was entered.
CREATE FUNCTION persistence.current_tenant_id() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
  SELECT nullif(current_setting('persistence.tenant_id', true), '')::uuid
$$;

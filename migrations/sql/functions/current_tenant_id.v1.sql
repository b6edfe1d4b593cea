-- The tenant of the present transaction, NULL when none was entered. The body is bound to its operators here, not by the search_path of whoever calls; it is
-- written as PostgreSQL prints it back, so that it can be compared.
CREATE FUNCTION persistence.current_tenant_id() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (NULLIF(current_setting('persistence.tenant_id'::text, true), ''::text))::uuid;

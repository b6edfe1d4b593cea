-- The user in whose name the present transaction works, NULL when none was entered. As current_tenant_id.
CREATE FUNCTION persistence.current_user_id() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (NULLIF(current_setting('persistence.user_id'::text, true), ''::text))::uuid;

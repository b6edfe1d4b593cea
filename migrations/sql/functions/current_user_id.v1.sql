-- The user in whose name the present transaction works, NULL when none was entered.
CREATE FUNCTION persistence.current_user_id() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
  SELECT nullif(current_setting('persistence.user_id', true), '')::uuid
$$;

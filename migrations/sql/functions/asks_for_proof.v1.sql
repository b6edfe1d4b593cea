-- Whether a transaction has to prove which tenant it may enter: see is_proven.
CREATE FUNCTION persistence.asks_for_proof() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
  SELECT EXISTS (SELECT FROM canon.context_keys)
$$;

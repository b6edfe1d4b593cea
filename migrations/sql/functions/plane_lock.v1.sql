-- The number of an advisory lock, by its name. Advisory locks belong to the whole cluster, and anybody may take any number: which number a name has is
-- known to the functions of this installation alone.
CREATE FUNCTION persistence.plane_lock(name text) RETURNS bigint
LANGUAGE sql STABLE
AS $$
  SELECT hashtextextended(name || i.lock_salt, 4) FROM canon.installation AS i
$$;

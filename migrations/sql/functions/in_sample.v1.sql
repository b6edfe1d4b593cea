-- Whether an aggregate belongs to a sample of so many in a hundred: always the same ones.
CREATE FUNCTION persistence.in_sample(aggregate_id uuid, percent double precision) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT mod(uuid_hash_extended(aggregate_id, 0) & 9223372036854775807, 10000) < percent * 100
$$;

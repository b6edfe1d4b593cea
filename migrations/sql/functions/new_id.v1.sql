-- A UUIDv7 (RFC 9562 section 5.7) for the few ids that are born in the database: 48 bits of milliseconds, version, random bits.
CREATE FUNCTION persistence.new_id() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
AS $$
  SELECT encode(
    set_byte(
      overlay(
        uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6
      ),
      6,
      112 + get_byte(uuid_send(gen_random_uuid()), 6) % 16
    ),
    'hex'
  )::uuid
$$;

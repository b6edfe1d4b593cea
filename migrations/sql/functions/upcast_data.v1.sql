-- An event's data as the present version of its type has them: each upcaster on the way from its version is applied in turn.
CREATE FUNCTION persistence.upcast_data(event_type text, event_version smallint, event_data jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  way record;
BEGIN
  IF NOT EXISTS (
    SELECT FROM canon.event_types AS t
    WHERE t.event_type = upcast_data.event_type
      AND t.event_version = upcast_data.event_version
  ) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE007',
      MESSAGE = format('the log holds %s of version %s, which this schema does not know', upcast_data.event_type, upcast_data.event_version),
      HINT = 'A later version of the package wrote it. Migrate to that version before reading on.';
  END IF;
  FOR way IN
    SELECT u.function_name
    FROM canon.upcasters AS u
    WHERE u.event_type = upcast_data.event_type
      AND u.from_version >= upcast_data.event_version
    ORDER BY u.from_version
  LOOP
    EXECUTE format('SELECT persistence.%I($1)', way.function_name) INTO event_data USING event_data;
  END LOOP;
  RETURN event_data;
END
$$;

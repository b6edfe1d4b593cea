-- Refuses what is no batch, or one that is too large.
CREATE FUNCTION persistence.check_batch_size(events jsonb, max_batch_events integer, max_batch_bytes integer) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
  IF events IS NULL OR jsonb_typeof(events) <> 'array' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = 'events must be a JSON array',
      HINT = 'Give one object an event.';
  ELSIF jsonb_array_length(events) > max_batch_events THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE006',
      MESSAGE = format('a batch of %s events exceeds the limit of %s', jsonb_array_length(events), max_batch_events),
      HINT = 'Append it in parts, or raise PERSISTENCE_MAX_BATCH_EVENTS.';
  ELSIF pg_column_size(events) > max_batch_bytes THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE006',
      MESSAGE = format('a batch of %s bytes exceeds the limit of %s', pg_column_size(events), max_batch_bytes),
      HINT = 'Append it in parts, or raise PERSISTENCE_MAX_BATCH_BYTES.';
  END IF;
END
$$;

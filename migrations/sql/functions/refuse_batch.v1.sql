-- Refuses what is no batch, or one that is too large (canon.size_limits).
CREATE FUNCTION persistence.refuse_batch(events jsonb) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
  limits canon.size_limits;
BEGIN
  SELECT l.* INTO limits FROM canon.size_limits AS l;
  IF events IS NULL OR jsonb_typeof(events) <> 'array' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = 'events must be a JSON array',
      HINT = 'Give one object an event.';
  ELSIF jsonb_array_length(events) > limits.batch_events THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE006',
      MESSAGE = format('a batch of %s events exceeds the limit of %s', jsonb_array_length(events), limits.batch_events),
      HINT = 'Append it in parts. The database''s limits are in canon.size_limits.';
  ELSIF pg_column_size(events) > limits.batch_bytes THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE006',
      MESSAGE = format('a batch of %s bytes exceeds the limit of %s', pg_column_size(events), limits.batch_bytes),
      HINT = 'Append it in parts. The database''s limits are in canon.size_limits.';
  END IF;
END
$$;

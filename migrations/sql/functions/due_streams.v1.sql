-- Tenants with due entries of an effect type, at most `most` of them, each with an equal share of `most`. Which of them is drawn anew each time, by their
-- weights. Where there are more than a thousand they are drawn from those that follow a random place, if any of these has something due.
CREATE FUNCTION persistence.due_streams(effect_type text, most integer) RETURNS persistence.outbox_share[]
LANGUAGE plpgsql
AS $$
DECLARE
  window_size CONSTANT integer := 1000;
  beginning CONSTANT uuid := gen_random_uuid();
  streams outbox_streams[];
  due outbox_share[];
BEGIN
  streams := ARRAY(
    SELECT s
    FROM outbox_streams AS s
    WHERE s.effect_type = due_streams.effect_type
      AND s.id >= beginning
    ORDER BY s.id
    LIMIT window_size
  ) || ARRAY(
    SELECT s
    FROM outbox_streams AS s
    WHERE s.effect_type = due_streams.effect_type
      AND s.id < beginning
    ORDER BY s.id
    LIMIT window_size
  );
  IF cardinality(streams) = 1 AND NOT EXISTS (SELECT FROM outbox_limits) THEN  -- nothing to draw: whether something is due, the claim sees for itself
    RETURN ARRAY[ROW(streams[1].tenant_id, streams[1].swept_to, most, NULL, false)::outbox_share];
  END IF;
  due := drawn_streams(streams, most);
  IF due IS NULL AND cardinality(streams) >= window_size THEN
    due := drawn_streams(ARRAY(SELECT s FROM outbox_streams AS s WHERE s.effect_type = due_streams.effect_type), most);
  END IF;
  RETURN due;
END
$$;

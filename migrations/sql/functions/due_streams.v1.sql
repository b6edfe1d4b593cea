-- Tenants with due entries of an effect type, at most `most` of them, each with an equal share of `most`. Which of them is drawn anew each time, by their
-- weights. Where there are more than a hundred marks they are drawn from those that follow a random place, from more of them if none of these has something due.
CREATE FUNCTION persistence.due_streams(effect_type text, most integer) RETURNS persistence.outbox_share[]
LANGUAGE plpgsql
AS $$
DECLARE
  beginning CONSTANT uuid := gen_random_uuid();
  window_size integer := greatest(100, most);
  marks outbox_marks[];
  due outbox_share[];
BEGIN
  LOOP
    marks := ARRAY(
      SELECT m
      FROM outbox_marks AS m
      WHERE m.effect_type = due_streams.effect_type
        AND m.id >= beginning
      ORDER BY m.id
      LIMIT window_size
    );
    IF cardinality(marks) < window_size THEN
      marks := marks || ARRAY(
        SELECT m
        FROM outbox_marks AS m
        WHERE m.effect_type = due_streams.effect_type
          AND m.id < beginning
        ORDER BY m.id
        LIMIT window_size
      );
    END IF;
    IF cardinality(marks) = 1 AND NOT EXISTS (SELECT FROM outbox_limits) THEN  -- nothing to draw: whether something is due, the claim sees for itself
      RETURN ARRAY[ROW(marks[1].tenant_id, marks[1].swept_to, most, NULL, false)::outbox_share];
    END IF;
    due := drawn_streams(marks, most);
    IF due IS NOT NULL OR cardinality(marks) < window_size THEN
      RETURN due;
    END IF;
    window_size := window_size * 10;
  END LOOP;
END
$$;

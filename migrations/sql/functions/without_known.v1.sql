-- A batch without the requests that known_effects has answered. What one of them caused is caused by what had caused the request.
CREATE FUNCTION persistence.without_known(events jsonb, known jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
  dropped record;
BEGIN
  IF known = '[]' THEN
    RETURN events;
  END IF;
  FOR dropped IN
    SELECT r.event
    FROM jsonb_array_elements(events) WITH ORDINALITY AS r (event, position)
    WHERE known @> jsonb_build_array(jsonb_build_object('event_id', r.event ->> 'id'))
    ORDER BY r.position
  LOOP
    IF events @> jsonb_build_array(jsonb_build_object('causation_id', dropped.event -> 'id')) THEN
      events := (
        SELECT jsonb_agg(
          CASE
            WHEN r.event -> 'causation_id' = dropped.event -> 'id' THEN jsonb_set(r.event, '{causation_id}', dropped.event -> 'causation_id')
            ELSE r.event
          END
          ORDER BY r.position
        )
        FROM jsonb_array_elements(events) WITH ORDINALITY AS r (event, position)
      );
    END IF;
  END LOOP;
  RETURN (
    SELECT coalesce(jsonb_agg(r.event ORDER BY r.position), '[]')
    FROM jsonb_array_elements(events) WITH ORDINALITY AS r (event, position)
    WHERE NOT known @> jsonb_build_array(jsonb_build_object('event_id', r.event ->> 'id'))
  );
END
$$;

-- A batch without the requests that known_effects has answered.
CREATE FUNCTION persistence.without_known(events jsonb, known jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE
AS $$
  SELECT CASE
    WHEN known = '[]' THEN events
    ELSE (
      SELECT coalesce(jsonb_agg(r.event ORDER BY r.position), '[]')
      FROM jsonb_array_elements(events) WITH ORDINALITY AS r (event, position)
      WHERE NOT known @> jsonb_build_array(jsonb_build_object('event_id', r.event ->> 'id'))
    )
  END
$$;

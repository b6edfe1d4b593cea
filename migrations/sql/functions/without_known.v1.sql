-- A batch without the requests that known_effects has answered. What one of them caused is caused by what had caused the request.
CREATE FUNCTION persistence.without_known(events jsonb, known jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
  dropped jsonb;
  causes jsonb := '{}';
BEGIN
  IF known = '[]' THEN
    RETURN events;
  END IF;
  -- In the order of the batch, so that the cause of a dropped request, when that is dropped as well, is replaced already.
  FOR dropped IN
    SELECT r.event
    FROM jsonb_array_elements(events) WITH ORDINALITY AS r (event, position)
    WHERE known @> jsonb_build_array(jsonb_build_object('event_id', r.event ->> 'id'))
    ORDER BY r.position
  LOOP
    causes := causes || jsonb_build_object(dropped ->> 'id', coalesce(causes -> (dropped ->> 'causation_id'), dropped -> 'causation_id'));
  END LOOP;
  RETURN (
    SELECT coalesce(
      jsonb_agg(
        CASE
          WHEN causes ? (r.event ->> 'causation_id') THEN jsonb_set(r.event, '{causation_id}', causes -> (r.event ->> 'causation_id'))
          ELSE r.event
        END
        ORDER BY r.position
      ),
      '[]'
    )
    FROM jsonb_array_elements(events) WITH ORDINALITY AS r (event, position)
    WHERE (causes ? (r.event ->> 'id')) IS NOT TRUE
  );
END
$$;

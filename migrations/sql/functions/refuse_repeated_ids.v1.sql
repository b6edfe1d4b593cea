-- Refuses a batch with an event id that stands twice in it. The log's key sees to that, but for requests that were known already and do not go in.
CREATE FUNCTION persistence.refuse_repeated_ids(events jsonb) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
  repeated uuid;
BEGIN
  SELECT (e.event ->> 'id')::uuid
  INTO repeated
  FROM jsonb_array_elements(events) AS e (event)
  GROUP BY 1
  HAVING count(*) > 1
  LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE004',
      MESSAGE = format('event id %s stands twice in the batch', repeated),
      HINT = 'An event id names one event for ever; give each event its own.';
  END IF;
END
$$;

-- The step_index after those that the run has, and after those that the batch gives to steps of it.
CREATE FUNCTION persistence.next_step_index(tenant_id uuid, run_id uuid, events jsonb) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
  last_index integer;
BEGIN
  SELECT s.step_index
  INTO last_index
  FROM steps AS s
  WHERE s.tenant_id = next_step_index.tenant_id
    AND s.run_id = next_step_index.run_id
  ORDER BY s.step_index DESC
  LIMIT 1;
  IF events @? '$[*].event_data.step_index' THEN
    last_index := greatest(
      last_index,
      (
        SELECT max((e.event #>> '{event_data,step_index}')::integer)
        FROM jsonb_array_elements(events) AS e (event)
        WHERE (e.event #>> '{event_data,run_id}')::uuid = next_step_index.run_id
      )
    );
  END IF;
  RETURN coalesce(last_index, -1) + 1;
END
$$;

-- The run and the step that an event's aggregate is a part of (canon.part_of): as its first event says, or as its row does.
CREATE FUNCTION persistence.wholes_of(e persistence.orchestration_events, OUT run_id uuid, OUT step_id uuid)
LANGUAGE plpgsql
AS $$
BEGIN
  IF e.aggregate_version = 1 THEN
    IF e.aggregate_type = 'RUN' THEN
      run_id := (e.event_data ->> 'parent_run_id')::uuid;
    ELSE
      run_id := (e.event_data ->> 'run_id')::uuid;
      step_id := (e.event_data ->> 'step_id')::uuid;
    END IF;
  ELSIF e.aggregate_type = 'STEP' THEN
    SELECT s.run_id INTO run_id FROM steps AS s WHERE s.tenant_id = e.tenant_id AND s.id = e.aggregate_id;
  ELSIF e.aggregate_type = 'TOOL_CALL' THEN
    SELECT c.run_id, c.step_id INTO run_id, step_id FROM tool_calls AS c WHERE c.tenant_id = e.tenant_id AND c.id = e.aggregate_id;
  ELSIF e.aggregate_type = 'RUN' THEN
    SELECT r.parent_run_id INTO run_id FROM runs AS r WHERE r.tenant_id = e.tenant_id AND r.id = e.aggregate_id;
  END IF;
END
$$;

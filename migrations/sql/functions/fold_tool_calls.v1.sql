-- Applies the deltas of tool calls to their rows: one INSERT for those that begin, one UPDATE for those that go on.
CREATE FUNCTION persistence.fold_tool_calls{one}({deltas}) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  changed integer;
BEGIN
  IF {some_begin} THEN
    INSERT INTO tool_calls (
      tenant_id, id, status, version, correlation_id, causation_id, actor, last_event_id, created_at, updated_at,
      run_id, step_id, tool_name, tool_args, tool_result, error_details, started_at, completed_at
    )
    SELECT
      d.tenant_id, d.id, d.status, d.version, d.correlation_id, d.causation_id, d.actor, d.last_event_id, d.created_at, d.updated_at,
      (d.doc ->> 'run_id')::uuid, (d.doc ->> 'step_id')::uuid, d.doc ->> 'tool_name', nullif(d.doc -> 'tool_args', 'null'),
      nullif(d.doc -> 'tool_result', 'null'), nullif(d.doc -> 'error_details', 'null'),
      (d.doc ->> 'started_at')::timestamptz, (d.doc ->> 'completed_at')::timestamptz
    {those_that_begin TOOL_CALL};
  END IF;

  IF {some_go_on} THEN
    UPDATE tool_calls AS s
    SET
      status = d.status,
      version = d.version,
      last_event_id = d.last_event_id,
      updated_at = greatest(s.updated_at, d.updated_at),
      tool_result = CASE WHEN d.doc ? 'tool_result' THEN nullif(d.doc -> 'tool_result', 'null') ELSE s.tool_result END,
      error_details = CASE WHEN d.doc ? 'error_details' THEN nullif(d.doc -> 'error_details', 'null') ELSE s.error_details END,
      started_at = coalesce((d.doc ->> 'started_at')::timestamptz, s.started_at),
      completed_at = CASE WHEN d.doc ? 'completed_at' THEN (d.doc ->> 'completed_at')::timestamptz ELSE s.completed_at END
    {those_that_go_on TOOL_CALL}
      AND s.tenant_id = d.tenant_id
      AND s.id = d.id
      AND s.version = d.first_version - 1
      AND s.correlation_id = d.correlation_id
      AND s.status = ANY (d.from_statuses);
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed = {how_many_go_on};
  END IF;
  RETURN true;
END
$$;

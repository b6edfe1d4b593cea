-- Applies the deltas of steps to their rows: one INSERT for those that begin, one UPDATE for those that go on.
-- Who has no lease (append_turns) may cancel steps of flows and let failed ones go on; the rest is their executors'.
CREATE FUNCTION persistence.fold_steps{one}({deltas}) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  changed integer;
BEGIN
  IF {some_begin} THEN
    INSERT INTO steps (
      tenant_id, id, status, version, correlation_id, causation_id, actor, last_event_id, created_at, updated_at,
      run_id, step_index, step_type, position, wait_until, signal_type, signal_key, progress, input_data, output_result, error_details, wait_reason, retry_count, started_at, completed_at
    )
    SELECT
      d.tenant_id, d.id, d.status, d.version, d.correlation_id, d.causation_id, d.actor, d.last_event_id, d.created_at, d.updated_at,
      (d.doc ->> 'run_id')::uuid, (d.doc ->> 'step_index')::integer, d.doc ->> 'step_type', d.doc ->> 'position',
      (d.doc ->> 'wait_until')::timestamptz, d.doc ->> 'signal_type', d.doc ->> 'signal_key', nullif(d.doc -> 'progress', 'null'), nullif(d.doc -> 'input_data', 'null'),
      nullif(d.doc -> 'output_result', 'null'), nullif(d.doc -> 'error_details', 'null'), d.doc ->> 'wait_reason', d.retries,
      (d.doc ->> 'started_at')::timestamptz, (d.doc ->> 'completed_at')::timestamptz
    {those_that_begin STEP};
  END IF;

  IF {some_go_on} THEN
    UPDATE steps AS s
    SET
      status = d.status,
      version = d.version,
      last_event_id = d.last_event_id,
      updated_at = greatest(s.updated_at, d.updated_at),
      output_result = CASE WHEN d.doc ? 'output_result' THEN nullif(d.doc -> 'output_result', 'null') ELSE s.output_result END,
      error_details = CASE WHEN d.doc ? 'error_details' THEN nullif(d.doc -> 'error_details', 'null') ELSE s.error_details END,
      wait_reason = CASE WHEN d.doc ? 'wait_reason' THEN d.doc ->> 'wait_reason' ELSE s.wait_reason END,
      wait_until = CASE WHEN d.doc ? 'wait_until' THEN (d.doc ->> 'wait_until')::timestamptz ELSE s.wait_until END,
      signal_type = CASE WHEN d.doc ? 'signal_type' THEN d.doc ->> 'signal_type' ELSE s.signal_type END,
      signal_key = CASE WHEN d.doc ? 'signal_key' THEN d.doc ->> 'signal_key' ELSE s.signal_key END,
      progress = CASE WHEN d.doc ? 'progress' THEN nullif(d.doc -> 'progress', 'null') ELSE s.progress END,
      retry_count = s.retry_count + d.retries,
      started_at = coalesce((d.doc ->> 'started_at')::timestamptz, s.started_at),
      completed_at = CASE WHEN d.doc ? 'completed_at' THEN (d.doc ->> 'completed_at')::timestamptz ELSE s.completed_at END
    {those_that_go_on STEP}
      AND s.tenant_id = d.tenant_id
      AND s.id = d.id
      AND s.version = d.first_version - 1
      AND s.correlation_id = d.correlation_id
      AND s.status = ANY (d.from_statuses)
      AND (
        s.position IS NULL
        OR d.first_event_type IN ('STEP_CANCELLED', 'STEP_RETRIED')
        OR coalesce(current_setting('persistence.leases', true), '') <> ''
      );
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed = {how_many_go_on};
  END IF;
  RETURN true;
END
$$;

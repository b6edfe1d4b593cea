-- Applies the deltas of runs to their rows: one INSERT for those that begin, one UPDATE for those that go on.
-- Who has no lease (append_turns) may give up runs of flows and let failed ones go on; the rest is their executors'.
CREATE FUNCTION persistence.fold_runs{one}({deltas}) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  changed integer;
BEGIN
  IF {some_begin} THEN
    INSERT INTO runs (
      tenant_id, id, status, version, correlation_id, causation_id, actor, last_event_id, created_at, updated_at,
      signal_id, parent_run_id, run_type, flow_version, flow_key, ordering_key, priority, starts_at, deadline, input_data, output_result, error_details, wait_reason, retry_count, started_at, completed_at
    )
    SELECT
      d.tenant_id, d.id, d.status, d.version, d.correlation_id, d.causation_id, d.actor, d.last_event_id, d.created_at, d.updated_at,
      (d.doc ->> 'signal_id')::uuid, (d.doc ->> 'parent_run_id')::uuid, d.doc ->> 'run_type',
      (d.doc ->> 'flow_version')::integer, d.doc ->> 'flow_key', d.doc ->> 'ordering_key', (d.doc ->> 'priority')::smallint,
      (d.doc ->> 'starts_at')::timestamptz, (d.doc ->> 'deadline')::timestamptz, nullif(d.doc -> 'input_data', 'null'),
      nullif(d.doc -> 'output_result', 'null'), nullif(d.doc -> 'error_details', 'null'), d.doc ->> 'wait_reason', d.retries,
      (d.doc ->> 'started_at')::timestamptz, (d.doc ->> 'completed_at')::timestamptz
    {those_that_begin RUN};
  END IF;

  IF {some_go_on} THEN
    UPDATE runs AS s
    SET
      status = d.status,
      version = d.version,
      last_event_id = d.last_event_id,
      updated_at = greatest(s.updated_at, d.updated_at),
      output_result = CASE WHEN d.doc ? 'output_result' THEN nullif(d.doc -> 'output_result', 'null') ELSE s.output_result END,
      error_details = CASE WHEN d.doc ? 'error_details' THEN nullif(d.doc -> 'error_details', 'null') ELSE s.error_details END,
      wait_reason = CASE WHEN d.doc ? 'wait_reason' THEN d.doc ->> 'wait_reason' ELSE s.wait_reason END,
      retry_count = s.retry_count + d.retries,
      started_at = coalesce((d.doc ->> 'started_at')::timestamptz, s.started_at),
      completed_at = CASE WHEN d.doc ? 'completed_at' THEN (d.doc ->> 'completed_at')::timestamptz ELSE s.completed_at END
    {those_that_go_on RUN}
      AND s.tenant_id = d.tenant_id
      AND s.id = d.id
      AND s.version = d.first_version - 1
      AND s.correlation_id = d.correlation_id
      AND s.status = ANY (d.from_statuses)
      AND (
        s.flow_version IS NULL
        OR d.first_event_type IN ('RUN_CANCELLED', 'RUN_FAILED', 'RUN_RETRIED')
        OR coalesce(current_setting('persistence.leases', true), '') <> ''
      );
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed = {how_many_go_on};
  END IF;
  RETURN true;
END
$$;

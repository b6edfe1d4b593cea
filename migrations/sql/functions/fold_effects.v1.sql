-- Applies the deltas of effects to their rows: one INSERT for those that begin, one UPDATE for those that go on.
CREATE FUNCTION persistence.fold_effects{one}({deltas}) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  changed integer;
BEGIN
  IF {some_begin} THEN
    INSERT INTO effects (
      tenant_id, id, status, version, correlation_id, causation_id, actor, last_event_id, created_at, updated_at,
      run_id, step_id, memory_id, effect_type, idempotency_key, effect_spec, retry_count, next_retry_at, execution_result, error_details, executed_at,
      cancel_requested_at, is_awaited
    )
    SELECT
      d.tenant_id, d.id, d.status, d.version, d.correlation_id, d.causation_id, d.actor, d.last_event_id, d.created_at, d.updated_at,
      (d.doc ->> 'run_id')::uuid, (d.doc ->> 'step_id')::uuid, (d.doc ->> 'memory_id')::uuid, d.doc ->> 'effect_type', d.doc -> 'effect_spec' ->> 'idempotency_key',
      d.doc -> 'effect_spec', coalesce((d.doc ->> 'retry_count')::integer, 0), (d.doc ->> 'next_retry_at')::timestamptz,
      nullif(d.doc -> 'execution_result', 'null'), nullif(d.doc -> 'error_details', 'null'), (d.doc ->> 'executed_at')::timestamptz,
      (d.doc ->> 'cancel_requested_at')::timestamptz, (d.doc ->> 'is_awaited')::boolean
    {those_that_begin EFFECT};
  END IF;

  IF {some_go_on} THEN
    UPDATE effects AS s
    SET
      status = d.status,
      version = d.version,
      last_event_id = d.last_event_id,
      updated_at = greatest(s.updated_at, d.updated_at),
      retry_count = CASE WHEN d.doc ? 'retry_count' THEN (d.doc ->> 'retry_count')::integer ELSE s.retry_count END,
      next_retry_at = CASE WHEN d.doc ? 'next_retry_at' THEN (d.doc ->> 'next_retry_at')::timestamptz ELSE s.next_retry_at END,
      execution_result = CASE WHEN d.doc ? 'execution_result' THEN nullif(d.doc -> 'execution_result', 'null') ELSE s.execution_result END,
      error_details = CASE WHEN d.doc ? 'error_details' THEN nullif(d.doc -> 'error_details', 'null') ELSE s.error_details END,
      executed_at = coalesce((d.doc ->> 'executed_at')::timestamptz, s.executed_at),
      cancel_requested_at = coalesce((d.doc ->> 'cancel_requested_at')::timestamptz, s.cancel_requested_at)
    {those_that_go_on EFFECT}
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

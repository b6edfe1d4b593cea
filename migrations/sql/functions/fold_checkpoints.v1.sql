-- Applies the deltas of checkpoints to their rows: one INSERT for those that begin, one UPDATE for those that go on.
-- attachments: the saved states as text, by checkpoint id. They are not in the log, so a replay has none.
CREATE FUNCTION persistence.fold_checkpoints{one}({deltas}, attachments jsonb) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  changed integer;
BEGIN
  IF {some_begin} THEN
    INSERT INTO run_checkpoints (
      tenant_id, id, status, version, correlation_id, causation_id, actor, last_event_id, created_at, updated_at,
      run_id, step_id, label, digest, size_bytes, restored_at, state
    )
    SELECT
      d.tenant_id, d.id, d.status, d.version, d.correlation_id, d.causation_id, d.actor, d.last_event_id, d.created_at, d.updated_at,
      (d.doc ->> 'run_id')::uuid, (d.doc ->> 'step_id')::uuid, d.doc ->> 'label', d.doc ->> 'digest',
      (d.doc ->> 'size_bytes')::bigint, (d.doc ->> 'restored_at')::timestamptz, CASE d.status WHEN 'SAVED' THEN (attachments ->> d.id::text)::json END
    {those_that_begin CHECKPOINT};
  END IF;

  IF {some_go_on} THEN
    UPDATE run_checkpoints AS s
    SET
      status = d.status,
      version = d.version,
      last_event_id = d.last_event_id,
      updated_at = greatest(s.updated_at, d.updated_at),
      restored_at = coalesce((d.doc ->> 'restored_at')::timestamptz, s.restored_at),
      state = CASE WHEN d.doc ? 'state' THEN NULL ELSE s.state END
    {those_that_go_on CHECKPOINT}
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

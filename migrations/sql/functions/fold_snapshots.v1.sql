-- Applies the deltas of snapshots to their rows: one INSERT for those that begin, one UPDATE for those that go on.
CREATE FUNCTION persistence.fold_snapshots{one}({deltas}) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  changed integer;
BEGIN
  IF {some_begin} THEN
    INSERT INTO snapshots (
      tenant_id, id, status, version, correlation_id, causation_id, actor, last_event_id, created_at, updated_at,
      snapshot_kind, folder, subject, position, digest, size_bytes, cause, verified_at, restored_at, findings, error_details
    )
    SELECT
      d.tenant_id, d.id, d.status, d.version, d.correlation_id, d.causation_id, d.actor, d.last_event_id, d.created_at, d.updated_at,
      d.doc ->> 'snapshot_kind', d.doc ->> 'folder', d.doc ->> 'subject', d.doc ->> 'position', d.doc ->> 'digest', (d.doc ->> 'size_bytes')::bigint, d.doc ->> 'cause',
      (d.doc ->> 'verified_at')::timestamptz, (d.doc ->> 'restored_at')::timestamptz, nullif(d.doc -> 'findings', 'null'), nullif(d.doc -> 'error_details', 'null')
    {those_that_begin SNAPSHOT};
  END IF;

  IF {some_go_on} THEN
    UPDATE snapshots AS s
    SET
      status = d.status,
      version = d.version,
      last_event_id = d.last_event_id,
      updated_at = greatest(s.updated_at, d.updated_at),
      verified_at = coalesce((d.doc ->> 'verified_at')::timestamptz, s.verified_at),
      restored_at = coalesce((d.doc ->> 'restored_at')::timestamptz, s.restored_at),
      findings = CASE WHEN d.doc ? 'findings' THEN nullif(d.doc -> 'findings', 'null') ELSE s.findings END,
      error_details = CASE WHEN d.doc ? 'error_details' THEN nullif(d.doc -> 'error_details', 'null') ELSE s.error_details END
    {those_that_go_on SNAPSHOT}
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

-- Applies the deltas of secrets to their rows. attachments: the sealed values, by secret id. They are not in the log, so a replay has none, and what was destroyed is gone.
CREATE FUNCTION persistence.fold_secrets{one}({deltas}, attachments jsonb) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  changed integer;
BEGIN
  IF {some_begin} THEN
    INSERT INTO secrets (
      tenant_id, id, status, version, correlation_id, causation_id, actor, last_event_id, created_at, updated_at,
      name, number, secret_kind, key_id, digest, expires_at, max_reads, sealed
    )
    SELECT
      d.tenant_id, d.id, d.status, d.version, d.correlation_id, d.causation_id, d.actor, d.last_event_id, d.created_at, d.updated_at,
      d.doc ->> 'name', (d.doc ->> 'number')::integer, d.doc ->> 'secret_kind', (d.doc ->> 'key_id')::uuid, d.doc ->> 'digest',
      (d.doc ->> 'expires_at')::timestamptz, (d.doc ->> 'max_reads')::integer, CASE d.status WHEN 'HELD' THEN attachments ->> d.id::text END
    {those_that_begin SECRET};
  END IF;

  IF {some_go_on} THEN
    UPDATE secrets AS s
    SET
      status = d.status,
      version = d.version,
      last_event_id = d.last_event_id,
      updated_at = greatest(s.updated_at, d.updated_at),
      key_id = coalesce((d.doc ->> 'key_id')::uuid, s.key_id),
      digest = coalesce(d.doc ->> 'digest', s.digest),
      sealed = CASE d.status WHEN 'HELD' THEN coalesce(attachments ->> d.id::text, s.sealed) END
    {those_that_go_on SECRET}
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

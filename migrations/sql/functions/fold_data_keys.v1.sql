-- Applies the deltas of data keys to their rows. attachments: the wrapped keys, by key id. They are not in the log, so a replay has none, and what was destroyed is gone.
CREATE FUNCTION persistence.fold_data_keys{one}({deltas}, attachments jsonb) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  changed integer;
BEGIN
  IF {some_begin} THEN
    INSERT INTO data_keys (
      tenant_id, id, status, version, correlation_id, causation_id, actor, last_event_id, created_at, updated_at,
      subject, term, vault_id, vault_term, digest, sealed
    )
    SELECT
      d.tenant_id, d.id, d.status, d.version, d.correlation_id, d.causation_id, d.actor, d.last_event_id, d.created_at, d.updated_at,
      d.doc ->> 'subject', (d.doc ->> 'term')::integer, (d.doc ->> 'vault_id')::uuid, (d.doc ->> 'vault_term')::integer, d.doc ->> 'digest',
      CASE d.status WHEN 'ACTIVE' THEN attachments ->> d.id::text END
    {those_that_begin DATA_KEY};
  END IF;

  IF {some_go_on} THEN
    UPDATE data_keys AS s
    SET
      status = d.status,
      version = d.version,
      last_event_id = d.last_event_id,
      updated_at = greatest(s.updated_at, d.updated_at),
      vault_id = coalesce((d.doc ->> 'vault_id')::uuid, s.vault_id),
      vault_term = coalesce((d.doc ->> 'vault_term')::integer, s.vault_term),
      digest = coalesce(d.doc ->> 'digest', s.digest),
      sealed = CASE d.status WHEN 'ACTIVE' THEN coalesce(attachments ->> d.id::text, s.sealed) END
    {those_that_go_on DATA_KEY}
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

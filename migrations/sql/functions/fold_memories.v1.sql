-- Applies the deltas of memories to their rows: one INSERT for those that begin, one UPDATE for those that go on.
-- attachments: their texts by memory id. They are not in the log, so a replay has none.
CREATE FUNCTION persistence.fold_memories{one}({deltas}, attachments jsonb) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  changed integer;
BEGIN
  IF {some_begin} THEN
    INSERT INTO memories (
      tenant_id, id, status, version, correlation_id, causation_id, actor, last_event_id, created_at, updated_at,
      agent, context, tags, run_id, step_id, supersedes, superseded_by, importance, valid_from, valid_until, ended_at, is_embedded, digest, size_bytes, content, words
    )
    SELECT
      d.tenant_id, d.id, d.status, d.version, d.correlation_id, d.causation_id, d.actor, d.last_event_id, d.created_at, d.updated_at,
      d.doc ->> 'agent', d.doc ->> 'context', d.doc -> 'tags', (d.doc ->> 'run_id')::uuid, (d.doc ->> 'step_id')::uuid,
      (d.doc ->> 'supersedes')::uuid, (d.doc ->> 'superseded_by')::uuid, (d.doc ->> 'importance')::double precision,
      coalesce((d.doc ->> 'valid_from')::timestamptz, d.created_at), (d.doc ->> 'valid_until')::timestamptz, (d.doc ->> 'ended_at')::timestamptz, (d.doc ->> 'is_embedded')::boolean,
      d.doc ->> 'digest', (d.doc ->> 'size_bytes')::integer,
      CASE WHEN d.status <> 'FORGOTTEN' THEN attachments ->> d.id::text END,
      CASE WHEN d.status <> 'FORGOTTEN' THEN to_tsvector('simple', attachments ->> d.id::text) END
    {those_that_begin MEMORY};
  END IF;

  IF {some_go_on} THEN
    UPDATE memories AS s
    SET
      status = d.status,
      version = d.version,
      last_event_id = d.last_event_id,
      updated_at = greatest(s.updated_at, d.updated_at),
      superseded_by = coalesce((d.doc ->> 'superseded_by')::uuid, s.superseded_by),
      ended_at = CASE WHEN d.doc ? 'ended_at' THEN (d.doc ->> 'ended_at')::timestamptz ELSE s.ended_at END,
      content = CASE WHEN d.status <> 'FORGOTTEN' THEN s.content END,
      words = CASE WHEN d.status <> 'FORGOTTEN' THEN s.words END
    {those_that_go_on MEMORY}
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

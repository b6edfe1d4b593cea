-- Applies the deltas of indexes of memories to their rows: one INSERT for those that begin, one UPDATE for those that go on.
CREATE FUNCTION persistence.fold_memory_indexes{one}({deltas}) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  changed integer;
BEGIN
  IF {some_begin} THEN
    INSERT INTO memory_indexes (
      tenant_id, id, status, version, correlation_id, causation_id, actor, last_event_id, created_at, updated_at, store, model, dimensions, activated_at
    )
    SELECT
      d.tenant_id, d.id, d.status, d.version, d.correlation_id, d.causation_id, d.actor, d.last_event_id, d.created_at, d.updated_at,
      d.doc ->> 'store', d.doc ->> 'model', (d.doc ->> 'dimensions')::integer, (d.doc ->> 'activated_at')::timestamptz
    {those_that_begin MEMORY_INDEX};
  END IF;

  IF {some_go_on} THEN
    UPDATE memory_indexes AS s
    SET
      status = d.status,
      version = d.version,
      last_event_id = d.last_event_id,
      updated_at = greatest(s.updated_at, d.updated_at),
      activated_at = coalesce((d.doc ->> 'activated_at')::timestamptz, s.activated_at)
    {those_that_go_on MEMORY_INDEX}
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

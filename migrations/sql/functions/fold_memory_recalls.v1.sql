-- Applies the deltas of uses of memories: each is one event.
CREATE FUNCTION persistence.fold_memory_recalls{one}({deltas}) RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
  INSERT INTO memory_recalls (
    tenant_id, id, status, version, correlation_id, causation_id, actor, last_event_id, created_at, updated_at, agent, run_id, step_id, index_id, memories
  )
  SELECT
    d.tenant_id, d.id, d.status, d.version, d.correlation_id, d.causation_id, d.actor, d.last_event_id, d.created_at, d.updated_at,
    d.doc ->> 'agent', (d.doc ->> 'run_id')::uuid, (d.doc ->> 'step_id')::uuid, (d.doc ->> 'index_id')::uuid, d.doc -> 'memories'
  {those_that_begin MEMORY_RECALL};
  RETURN NOT {some_go_on};
END
$$;

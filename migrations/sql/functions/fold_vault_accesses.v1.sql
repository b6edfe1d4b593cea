-- Applies the deltas of accesses to what is sealed: each is one event.
CREATE FUNCTION persistence.fold_vault_accesses{one}({deltas}) RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
  INSERT INTO vault_accesses (
    tenant_id, id, status, version, correlation_id, causation_id, actor, last_event_id, created_at, updated_at, secret_id, key_id, purpose
  )
  SELECT
    d.tenant_id, d.id, d.status, d.version, d.correlation_id, d.causation_id, d.actor, d.last_event_id, d.created_at, d.updated_at,
    (d.doc ->> 'secret_id')::uuid, (d.doc ->> 'key_id')::uuid, d.doc ->> 'purpose'
  {those_that_begin VAULT_ACCESS};
  RETURN NOT {some_go_on};
END
$$;

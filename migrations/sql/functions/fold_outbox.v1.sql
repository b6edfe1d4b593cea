-- Applies the deltas of effects to their outbox entries, which share their ids: one INSERT for those that begin, one UPDATE for those that go on.
-- An entry that begins does not fit when its idempotency key is known.
CREATE FUNCTION persistence.fold_outbox{one}({deltas}) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  changed integer;
BEGIN
  IF {some_begin} THEN
    INSERT INTO outbox_events (
      tenant_id, id, status, version, correlation_id, causation_id, actor, last_event_id, created_at, updated_at,
      aggregate_id, event_type, idempotency_key, payload, retry_count, next_retry_at, error_details, published_at,
      priority, ordering_key, destination, blocks_key, traceparent
    )
    SELECT
      d.tenant_id, d.id, CASE d.status WHEN 'EXECUTED' THEN 'PUBLISHED' ELSE d.status END, d.version, d.correlation_id, d.causation_id, d.actor, d.last_event_id,
      d.created_at, d.updated_at, d.id, d.doc ->> 'effect_type', d.doc -> 'effect_spec' ->> 'idempotency_key', d.doc -> 'effect_spec',
      coalesce((d.doc ->> 'retry_count')::integer, 0), (d.doc ->> 'next_retry_at')::timestamptz,
      nullif(d.doc -> 'error_details', 'null'), (d.doc ->> 'executed_at')::timestamptz,
      coalesce((d.doc ->> 'priority')::smallint, 0), d.doc ->> 'ordering_key', d.doc ->> 'destination', (d.doc ->> 'blocks_key')::boolean,
      d.doc ->> 'traceparent'
    {those_that_begin EFFECT}
    {unless_there};
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> {how_many_begin} THEN
      RETURN false;
    END IF;
  END IF;

  IF {some_go_on} THEN
    UPDATE outbox_events AS s
    SET
      status = CASE d.status WHEN 'EXECUTED' THEN 'PUBLISHED' ELSE d.status END,
      version = d.version,
      last_event_id = d.last_event_id,
      updated_at = greatest(s.updated_at, d.updated_at),
      retry_count = CASE WHEN d.doc ? 'retry_count' THEN (d.doc ->> 'retry_count')::integer ELSE s.retry_count END,
      next_retry_at = CASE WHEN d.doc ? 'next_retry_at' THEN (d.doc ->> 'next_retry_at')::timestamptz ELSE s.next_retry_at END,
      error_details = CASE WHEN d.doc ? 'error_details' THEN nullif(d.doc -> 'error_details', 'null') ELSE s.error_details END,
      published_at = coalesce((d.doc ->> 'executed_at')::timestamptz, s.published_at),
      blocks_key = CASE WHEN d.doc ? 'blocks_key' THEN (d.doc ->> 'blocks_key')::boolean ELSE s.blocks_key END
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

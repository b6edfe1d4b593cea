-- Applies the deltas of signals to their rows: one INSERT for those that begin, one UPDATE for those that go on.
CREATE FUNCTION persistence.fold_signals{one}({deltas}) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  changed integer;
  known record;
BEGIN
  IF {some_begin} THEN
    INSERT INTO signals (
      tenant_id, id, status, version, correlation_id, causation_id, actor, last_event_id, created_at, updated_at,
      source_channel, source_id, signal_type, signal_key, payload, error_details, retry_count, received_at, processed_at
    )
    SELECT
      d.tenant_id, d.id, d.status, d.version, d.correlation_id, d.causation_id, d.actor, d.last_event_id, d.created_at, d.updated_at,
      d.doc ->> 'source_channel', d.doc ->> 'source_id', d.doc ->> 'signal_type', d.doc ->> 'signal_key', nullif(d.doc -> 'payload', 'null'),
      nullif(d.doc -> 'error_details', 'null'), d.retries, (d.doc ->> 'received_at')::timestamptz, (d.doc ->> 'processed_at')::timestamptz
    {those_that_begin SIGNAL}
    ON CONFLICT (tenant_id, source_channel, source_id) DO NOTHING;
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> {how_many_begin} THEN
      SELECT s.id, s.source_channel, s.source_id
      INTO known
      FROM unnest({all}) AS n
      JOIN signals AS s
        ON s.tenant_id = n.tenant_id
        AND s.source_channel = n.doc ->> 'source_channel'
        AND s.source_id = n.doc ->> 'source_id'
        AND s.id <> n.id
      WHERE n.aggregate_type = 'SIGNAL'
        AND n.first_version = 1
      LIMIT 1;
      RAISE EXCEPTION USING
        ERRCODE = 'PE009',
        MESSAGE = format('signal (%s, %s) was received already as %s', known.source_channel, known.source_id, known.id),
        HINT = 'Use receive_signals, which returns the signal that is there.';
    END IF;
  END IF;

  IF {some_go_on} THEN
    UPDATE signals AS s
    SET
      status = d.status,
      version = d.version,
      last_event_id = d.last_event_id,
      updated_at = greatest(s.updated_at, d.updated_at),
      error_details = CASE WHEN d.doc ? 'error_details' THEN nullif(d.doc -> 'error_details', 'null') ELSE s.error_details END,
      retry_count = s.retry_count + d.retries,
      processed_at = CASE WHEN d.doc ? 'processed_at' THEN (d.doc ->> 'processed_at')::timestamptz ELSE s.processed_at END
    {those_that_go_on SIGNAL}
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

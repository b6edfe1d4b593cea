-- Applies the deltas of signals to their rows: one INSERT for those that begin, one UPDATE for those that go on.
CREATE FUNCTION persistence.fold_signals(deltas persistence.aggregate_delta[], creations integer, changes integer) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  changed integer;
  known record;
BEGIN
  IF creations > 0 THEN
    INSERT INTO signals (
      tenant_id, id, status, version, correlation_id, causation_id, actor, last_event_id, created_at, updated_at,
      source_channel, source_id, signal_type, payload, error_details, retry_count, received_at, processed_at
    )
    SELECT
      d.tenant_id, d.id, d.status, d.version, d.correlation_id, d.causation_id, d.actor, d.last_event_id, d.created_at, d.updated_at,
      d.doc ->> 'source_channel', d.doc ->> 'source_id', d.doc ->> 'signal_type', nullif(d.doc -> 'payload', 'null'),
      nullif(d.doc -> 'error_details', 'null'), d.retries, (d.doc ->> 'received_at')::timestamptz, (d.doc ->> 'processed_at')::timestamptz
    FROM unnest(deltas) AS d
    WHERE d.aggregate_type = 'SIGNAL'
      AND d.first_version = 1
    ON CONFLICT (tenant_id, source_channel, source_id) DO NOTHING;
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> creations THEN
      SELECT s.id, s.source_channel, s.source_id
      INTO known
      FROM unnest(deltas) AS d
      JOIN signals AS s
        ON s.tenant_id = d.tenant_id
        AND s.source_channel = d.doc ->> 'source_channel'
        AND s.source_id = d.doc ->> 'source_id'
        AND s.id <> d.id
      WHERE d.aggregate_type = 'SIGNAL'
        AND d.first_version = 1
      LIMIT 1;
      RAISE EXCEPTION USING
        ERRCODE = 'PE009',
        MESSAGE = format('signal (%s, %s) was received already as %s', known.source_channel, known.source_id, known.id),
        HINT = 'Use receive_signals, which returns the signal that is there.';
    END IF;
  END IF;

  IF changes > 0 THEN
    UPDATE signals AS s
    SET
      status = d.status,
      version = d.version,
      last_event_id = d.last_event_id,
      updated_at = greatest(s.updated_at, d.updated_at),
      error_details = CASE WHEN d.doc ? 'error_details' THEN nullif(d.doc -> 'error_details', 'null') ELSE s.error_details END,
      retry_count = s.retry_count + d.retries,
      processed_at = CASE WHEN d.doc ? 'processed_at' THEN (d.doc ->> 'processed_at')::timestamptz ELSE s.processed_at END
    FROM unnest(deltas) AS d
    WHERE d.aggregate_type = 'SIGNAL'
      AND d.first_version > 1
      AND s.tenant_id = d.tenant_id
      AND s.id = d.id
      AND s.version = d.first_version - 1
      AND s.correlation_id = d.correlation_id
      AND EXISTS (
        SELECT FROM canon.state_transitions AS allowed
        WHERE allowed.aggregate_type = d.aggregate_type
          AND allowed.event_type = d.first_event_type
          AND allowed.from_status = s.status
      );
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> changes THEN
      PERFORM refuse_deltas('SIGNAL', deltas);
    END IF;
  END IF;
  RETURN true;
END
$$;

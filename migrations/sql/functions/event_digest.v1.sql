-- SHA-256 over all of an event. It is stored with the event, so that a change of either, by whomever, shows: see the gate event_digests.
-- Texts are taken as UTF-8, whatever encoding the client speaks.
CREATE FUNCTION persistence.event_digest(event persistence.orchestration_events) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
  SELECT sha256(
    record_send(
      ROW(
        (event).tenant_id, (event).id, (event).sequence_number, (event).transaction_id, (event).aggregate_id, (event).correlation_id,
        (event).causation_id, (event).occurred_at, (event).created_at, (event).updated_at, (event).aggregate_version, (event).event_version,
        convert_to((event).aggregate_type, 'UTF8'), convert_to((event).event_type, 'UTF8'), convert_to((event).actor, 'UTF8'),
        convert_to((event).source, 'UTF8'), convert_to((event).event_data::text, 'UTF8')
      )
    )
  )
$$;

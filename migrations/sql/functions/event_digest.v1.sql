-- SHA-256 over all of an event. It is stored with the event, so that a change of either, by whomever, shows: see the gate event_digests.
CREATE FUNCTION persistence.event_digest(event persistence.orchestration_events) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(
  record_send(
    ROW(
      (event).tenant_id, (event).id, (event).sequence_number, (event).transaction_id, (event).aggregate_id, (event).correlation_id,
      (event).causation_id, (event).occurred_at, (event).created_at, (event).updated_at, (event).aggregate_version, (event).event_version,
      (event).aggregate_type, (event).event_type, (event).actor, (event).source, (event).event_data
    )
  )
);

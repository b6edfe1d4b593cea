-- Destroys sealed values that are past their time, so many at most, each by an event. Returns how many.
CREATE FUNCTION persistence.destroy_over_secrets(most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
DECLARE
  batch orchestration_events[];
BEGIN
  WITH over AS (
    SELECT s.tenant_id, s.id, s.version, s.correlation_id, s.last_event_id
    FROM secrets AS s
    WHERE s.sealed IS NOT NULL
      AND s.expires_at < now()
    ORDER BY s.tenant_id, s.id
    LIMIT most
    FOR UPDATE SKIP LOCKED
  ),
  inserted AS (
    INSERT INTO orchestration_events AS log (
      tenant_id, id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
      correlation_id, causation_id, actor, source, occurred_at
    )
    SELECT
      o.tenant_id, new_id(), 'SECRET_DESTROYED', 1, 'SECRET', o.id, o.version + 1, '{"reason": "its time is over"}',
      o.correlation_id, o.last_event_id, 'system:housekeeping', 'housekeeping', clock_timestamp()
    FROM over AS o
    RETURNING log.*
  )
  SELECT array_agg(i::orchestration_events ORDER BY i.sequence_number) INTO batch FROM inserted AS i;
  IF batch IS NULL THEN
    RETURN 0;
  END IF;
  PERFORM fold_events(batch);
  RETURN cardinality(batch);
END
$$;

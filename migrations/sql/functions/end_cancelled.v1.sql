-- Ends effects that were cancelled while a worker held them, and that the worker neither settled nor holds any more: nobody knows whether they were
-- delivered. At most a thousand at a time. Returns how many there were.
CREATE FUNCTION persistence.end_cancelled() RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
  batch orchestration_events[];
BEGIN
  WITH left_over AS (
    DELETE FROM outbox_queue AS q
    USING (
      SELECT l.tenant_id, l.id
      FROM outbox_queue AS l
      WHERE l.held_by = 'CANCELLED'
        AND (l.leased_until IS NULL OR l.leased_until <= now())
      LIMIT 1000
      FOR UPDATE SKIP LOCKED
    ) AS l
    WHERE q.tenant_id = l.tenant_id
      AND q.id = l.id
    RETURNING q.tenant_id, q.id, q.attempts, q.leased_until IS NOT NULL AS was_begun
  ),
  recorded AS (
    INSERT INTO orchestration_events AS log (
      tenant_id, id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
      correlation_id, causation_id, actor, source, occurred_at
    )
    SELECT
      e.tenant_id, new_id(), t.event_type, t.event_version, 'EFFECT', e.id, e.version + 1,
      jsonb_build_object(
        'retry_count', l.attempts,
        'reason', CASE WHEN l.was_begun THEN 'its last attempt was not reported: it may have been delivered' ELSE 'no attempt was under way' END
      ),
      e.correlation_id, e.last_event_id, 'system:outbox-worker/sweep', 'outbox', clock_timestamp()
    FROM left_over AS l
    JOIN effects AS e ON e.tenant_id = l.tenant_id AND e.id = l.id
    JOIN canon.event_types AS t ON t.event_type = 'EFFECT_CANCELLED' AND t.is_current
    WHERE e.status = 'PENDING'
    RETURNING log.*
  )
  SELECT array_agg(r::orchestration_events ORDER BY r.sequence_number) INTO batch FROM recorded AS r;
  IF batch IS NULL THEN
    RETURN 0;
  END IF;
  PERFORM fold_events(batch);
  PERFORM open_keys(array_agg(o.tenant_id), array_agg(o.ordering_key))
  FROM unnest(batch) AS e
  JOIN outbox_events AS o ON o.tenant_id = e.tenant_id AND o.id = e.aggregate_id
  WHERE o.ordering_key IS NOT NULL;
  PERFORM wake_runs(array_agg(f.tenant_id), array_agg(f.run_id))
  FROM unnest(batch) AS e
  JOIN effects AS f ON f.tenant_id = e.tenant_id AND f.id = e.aggregate_id
  WHERE f.is_awaited;
  RETURN cardinality(batch);
END
$$;

-- Records, of entries that were just claimed again, the attempts before: those whose worker (lost_by) did not report back before its lease ran out.
-- attempts: with the one that begins now.
CREATE FUNCTION persistence.record_lost_attempts(worker text, tenant_ids uuid[], ids uuid[], attempts integer[], lost_by text[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
  batch orchestration_events[];
BEGIN
  WITH recorded AS (
    INSERT INTO orchestration_events AS log (
      tenant_id, id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
      correlation_id, causation_id, actor, source, occurred_at
    )
    SELECT
      e.tenant_id, new_id(), t.event_type, t.event_version, 'EFFECT', e.id, e.version + 1,
      jsonb_build_object(
        'retry_count', l.attempt - 1,
        'error_details', jsonb_build_object(
          'type', 'WorkerLost', 'message', format('worker %s did not report back: it may have been delivered', l.lost_by), 'attempt', l.attempt - 1
        ),
        'next_retry_at', now()
      ),
      e.correlation_id, e.last_event_id, left('system:outbox-worker/' || worker, 100), 'outbox', clock_timestamp()
    FROM unnest(tenant_ids, ids, attempts, lost_by) AS l (tenant_id, id, attempt, lost_by)
    JOIN effects AS e ON e.tenant_id = l.tenant_id AND e.id = l.id
    JOIN canon.event_types AS t ON t.event_type = 'EFFECT_ATTEMPT_FAILED' AND t.is_current
    WHERE l.lost_by IS NOT NULL
      AND l.attempt > 1
      AND e.status = 'PENDING'
    RETURNING log.*
  )
  SELECT array_agg(r::orchestration_events ORDER BY r.sequence_number) INTO batch FROM recorded AS r;
  IF batch IS NOT NULL THEN
    PERFORM fold_events(batch);
  END IF;
END
$$;

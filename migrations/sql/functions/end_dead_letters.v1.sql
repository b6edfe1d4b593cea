-- Appends one event to each of the named dead letters of a tenant and folds it: EFFECT_REQUEUED or EFFECT_DISCARDED.
-- Entries that are no dead letters are left alone. Returns the ids of those that moved.
CREATE FUNCTION persistence.end_dead_letters(tenant_id uuid, ids uuid[], event_type text, event_data jsonb, actor text) RETURNS uuid[]
LANGUAGE plpgsql
AS $$
DECLARE
  batch orchestration_events[];
  deltas aggregate_delta[];
  done boolean;
BEGIN
  PERFORM check_event_data(end_dead_letters.event_type, end_dead_letters.event_data);
  PERFORM check_operator(end_dead_letters.actor);
  WITH inserted AS (
    INSERT INTO orchestration_events AS log (
      tenant_id, id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
      correlation_id, causation_id, actor, source, occurred_at
    )
    SELECT
      e.tenant_id, new_id(), end_dead_letters.event_type, 1, 'EFFECT', e.id, e.version + 1, end_dead_letters.event_data,
      e.correlation_id, e.last_event_id, end_dead_letters.actor, 'operator', clock_timestamp()
    FROM (
      SELECT e.*
      FROM effects AS e
      WHERE e.tenant_id = end_dead_letters.tenant_id
        AND e.id = ANY (end_dead_letters.ids)
        AND e.status = 'DEAD_LETTER'
      FOR UPDATE
    ) AS e
    RETURNING log.*
  )
  SELECT array_agg(i::orchestration_events) INTO batch FROM inserted AS i;
  IF batch IS NULL THEN
    RETURN '{}';
  END IF;
  deltas := fold_events(batch);
  PERFORM queue_effects(deltas);
  done := queue_runs(deltas);
  RETURN ARRAY(SELECT e.aggregate_id FROM unnest(batch) AS e);
END
$$;

-- Cancels what is open in the runs and steps that a batch gives up, wave after wave: steps, tool calls, child runs, and effects that wait or are dead
-- letters. Each gets an event that the cancellation caused, by the same actor. An effect that a worker holds is marked instead: its handler is told,
-- and no other attempt is made (settle_outbox, end_cancelled). Where a run or step is completed with open_parts = cancel, its effects stay.
CREATE FUNCTION persistence.cancel_parts(batch persistence.orchestration_events[]) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  tenant CONSTANT uuid := batch[1].tenant_id;
  wave orchestration_events[];
  run_ids uuid[];
  step_ids uuid[];
  effect_ids uuid[];
  are_marked boolean := false;
  deltas aggregate_delta[];
  done boolean;
BEGIN
  wave := ARRAY(
    SELECT e
    FROM unnest(batch) AS e
    JOIN canon.event_types AS t USING (event_type, event_version)
    WHERE t.cancels OR e.event_data ? 'open_parts'
  );
  WHILE cardinality(wave) > 0 LOOP
    SELECT
      array_agg(e.aggregate_id) FILTER (WHERE e.aggregate_type = 'RUN'),
      array_agg(e.aggregate_id) FILTER (WHERE e.aggregate_type = 'STEP')
    INTO run_ids, step_ids
    FROM unnest(wave) AS e
    WHERE NOT e.event_data ? 'open_parts';

    -- Keys, then the queue, then the effects: the order of those who settle.
    effect_ids := ARRAY(
      SELECT f.id
      FROM effects AS f
      WHERE f.tenant_id = tenant
        AND f.run_id = ANY (run_ids)
        AND f.status IN ('PENDING', 'DEAD_LETTER')
      UNION
      SELECT f.id
      FROM effects AS f
      WHERE f.tenant_id = tenant
        AND f.step_id = ANY (step_ids)
        AND f.status IN ('PENDING', 'DEAD_LETTER')
    );
    IF cardinality(effect_ids) > 0 THEN
      PERFORM lock_keys(array_agg(o.tenant_id), array_agg(o.ordering_key))
      FROM outbox_events AS o
      WHERE o.tenant_id = tenant
        AND o.id = ANY (effect_ids)
        AND o.ordering_key IS NOT NULL;
      PERFORM
      FROM outbox_queue AS q
      WHERE q.tenant_id = tenant
        AND q.id = ANY (effect_ids)
      ORDER BY q.id
      FOR UPDATE;
    END IF;

    WITH causes AS (
      SELECT e.id, e.aggregate_type, e.aggregate_id, e.actor, e.source, e.event_type,
        format('%s %s was %s', lower(e.aggregate_type), e.aggregate_id, lower(t.to_status)) AS reason
      FROM unnest(wave) AS e
      JOIN canon.event_types AS t USING (event_type, event_version)
    ),
    open_steps AS (
      SELECT c.id AS cause_id, s.id, s.version, s.correlation_id
      FROM causes AS c
      JOIN steps AS s ON s.tenant_id = tenant AND s.run_id = c.aggregate_id
      WHERE c.aggregate_type = 'RUN'
        AND s.status IN ('PENDING', 'RUNNING', 'WAITING')
      FOR UPDATE OF s
    ),
    open_calls AS (
      SELECT c.id AS cause_id, x.id, x.version, x.correlation_id
      FROM causes AS c
      JOIN tool_calls AS x ON x.tenant_id = tenant AND x.run_id = c.aggregate_id
      WHERE c.aggregate_type = 'RUN'
        AND x.status IN ('PENDING', 'RUNNING')
      FOR UPDATE OF x
    ),
    open_calls_of_steps AS (
      SELECT c.id AS cause_id, x.id, x.version, x.correlation_id
      FROM causes AS c
      JOIN tool_calls AS x ON x.tenant_id = tenant AND x.step_id = c.aggregate_id
      WHERE c.aggregate_type = 'STEP'
        AND x.status IN ('PENDING', 'RUNNING')
      FOR UPDATE OF x
    ),
    open_runs AS (
      SELECT c.id AS cause_id, r.id, r.version, r.correlation_id
      FROM causes AS c
      JOIN runs AS r ON r.tenant_id = tenant AND r.parent_run_id = c.aggregate_id
      WHERE c.aggregate_type = 'RUN'
        AND r.status IN ('PENDING', 'RUNNING', 'WAITING', 'FAILED')
      FOR UPDATE OF r
    ),
    waiting_effects AS (
      SELECT c.id AS cause_id, f.id, f.version, f.correlation_id, f.cancel_requested_at
      FROM effects AS f
      JOIN causes AS c ON c.aggregate_id = CASE c.aggregate_type WHEN 'RUN' THEN f.run_id ELSE f.step_id END
      WHERE f.tenant_id = tenant
        AND f.id = ANY (effect_ids)
        AND f.status IN ('PENDING', 'DEAD_LETTER')
      FOR UPDATE OF f
    ),
    parts AS (
      SELECT 'STEP' AS kind, 'STEP_CANCELLED' AS event_type, o.* FROM open_steps AS o
      UNION ALL
      SELECT 'TOOL_CALL', 'TOOL_CALL_CANCELLED', o.* FROM open_calls AS o
      UNION ALL
      SELECT 'TOOL_CALL', 'TOOL_CALL_CANCELLED', o.* FROM open_calls_of_steps AS o
      UNION ALL
      SELECT 'RUN', 'RUN_CANCELLED', o.* FROM open_runs AS o
      UNION ALL
      SELECT
        'EFFECT', CASE WHEN q.leased_until > now() THEN 'EFFECT_CANCEL_REQUESTED' ELSE 'EFFECT_CANCELLED' END,
        o.cause_id, o.id, o.version, o.correlation_id
      FROM waiting_effects AS o
      LEFT JOIN outbox_queue AS q ON q.tenant_id = tenant AND q.id = o.id
      WHERE o.cancel_requested_at IS NULL OR (q.leased_until > now()) IS NOT TRUE
    ),
    recorded AS (
      INSERT INTO orchestration_events AS log (
        tenant_id, id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
        correlation_id, causation_id, actor, source, occurred_at
      )
      SELECT
        tenant, new_id(), p.event_type, t.event_version, p.kind, p.id, p.version + 1,
        CASE
          WHEN p.kind = 'EFFECT' THEN jsonb_build_object('reason', c.reason)
          WHEN p.kind = 'TOOL_CALL' THEN '{}'
          ELSE jsonb_build_object('error_details', jsonb_build_object('type', 'Cancelled', 'message', c.reason))
        END,
        p.correlation_id, c.id, c.actor, c.source, clock_timestamp()
      FROM (SELECT DISTINCT ON (p.id) p.* FROM parts AS p ORDER BY p.id, p.cause_id) AS p
      JOIN causes AS c ON c.id = p.cause_id
      JOIN canon.event_types AS t ON t.event_type = p.event_type AND t.is_current
      ORDER BY array_position(ARRAY['TOOL_CALL', 'STEP', 'EFFECT', 'RUN'], p.kind), p.id
      RETURNING log.*
    )
    SELECT array_agg(r::orchestration_events ORDER BY r.sequence_number), bool_or(r.event_type = 'EFFECT_CANCEL_REQUESTED') OR are_marked
    INTO wave, are_marked
    FROM recorded AS r;
    EXIT WHEN wave IS NULL;
    deltas := fold_events(wave);
    PERFORM queue_effects(deltas);
    done := queue_runs(deltas);
    wave := ARRAY(SELECT e FROM unnest(wave) AS e WHERE e.event_type = 'RUN_CANCELLED');
  END LOOP;
  IF are_marked THEN
    PERFORM pg_notify('persistence_outbox', 'cancelled');
  END IF;
  RETURN true;
END
$$;

-- Settles a batch of leased entries of any tenants: queue, event, effect and record move together. An entry whose lease_token is no longer
-- the one given is left alone: somebody else has it.
--
-- This is the fold of these three events written out, for speed: one statement over all. The gate state_is_the_fold compares it with the other.
--
-- The arrays go side by side, one element an entry:
--   outcomes: EXECUTED (delivered), FAILED (to be tried again after `delays`), DEAD (never again), BLOCKED (dead, and nothing of its ordering
--     key goes past it)
--   An entry that was cancelled while the worker had it is EXECUTED if it was delivered, and ends as CANCELLED otherwise.
--   details: the result of an executed entry, the error of another, as JSON. A dead one of type AttemptsUsedUp had no attempt left to be made.
-- Returns the ids of the entries that were settled.
CREATE FUNCTION persistence.settle_outbox(
  actor text, tenant_ids uuid[], ids uuid[], lease_tokens uuid[], event_ids uuid[], outcomes text[], details jsonb[], delays interval[]
) RETURNS uuid[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
  settled record;
  event_bytes CONSTANT integer := (SELECT l.event_bytes FROM canon.size_limits AS l WHERE l.is_only);
BEGIN
  IF NOT outcomes <@ ARRAY['EXECUTED', 'FAILED', 'DEAD', 'BLOCKED'] THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('outcomes: one of %s is none', outcomes),
      HINT = 'EXECUTED, FAILED, DEAD or BLOCKED.';
  ELSIF NOT starts_with(settle_outbox.actor, 'system:outbox-worker/') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('actor: %s is no outbox worker', coalesce(settle_outbox.actor, '(none)')),
      HINT = 'system:outbox-worker/ and the worker''s name.';
  ELSIF EXISTS (
    SELECT
    FROM unnest(outcomes, details, delays) AS g (outcome, detail, delay)
    WHERE (g.outcome <> 'EXECUTED' AND jsonb_typeof(g.detail) IS DISTINCT FROM 'object')
      OR (g.outcome = 'FAILED' AND (g.delay BETWEEN interval '0' AND interval '30 days') IS NOT TRUE)
  ) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = 'details, delays: what failed needs an error (a JSON object), and is tried again within 30 days',
      HINT = 'Give each failed entry its error, and a delay between nothing and 30 days.';
  END IF;
  FOR i IN 1 .. coalesce(cardinality(details), 0) LOOP
    IF pg_column_size(details[i]) > event_bytes THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE006',
        MESSAGE = format('details: %s bytes of effect %s exceed the limit of %s', pg_column_size(details[i]), ids[i], event_bytes),
        HINT = 'Keep large things elsewhere and record where. The database''s limits are in canon.size_limits.';
    END IF;
  END LOOP;

  BEGIN
    WITH given AS MATERIALIZED (
      SELECT g.*
      FROM unnest(tenant_ids, ids, lease_tokens, event_ids, outcomes, details, delays)
        AS g (tenant_id, id, lease_token, event_id, outcome, detail, delay)
    ),
    finished AS (
      DELETE FROM outbox_queue AS q
      USING given AS g
      WHERE q.tenant_id = g.tenant_id
        AND q.id = g.id
        AND q.lease_token = g.lease_token
        AND (g.outcome = 'EXECUTED' OR q.held_by = 'CANCELLED')
      RETURNING q.tenant_id, q.id, q.attempts, g.event_id, CASE WHEN g.outcome = 'EXECUTED' THEN 'EXECUTED' ELSE 'CANCELLED' END AS outcome,
        g.detail, NULL::timestamptz AS next_retry_at, q.is_awaited
    ),
    kept AS (
      UPDATE outbox_queue AS q
      SET
        due_at = CASE g.outcome WHEN 'FAILED' THEN now() + g.delay ELSE 'infinity' END,
        held_by = CASE WHEN g.outcome <> 'FAILED' THEN 'DEAD_LETTER' END,
        died_at = CASE WHEN g.outcome <> 'FAILED' THEN now() END,
        attempts = q.attempts - (g.outcome <> 'FAILED' AND g.detail ->> 'type' = 'AttemptsUsedUp')::integer,
        ordering_key = CASE WHEN g.outcome <> 'DEAD' THEN q.ordering_key END,
        position = CASE WHEN g.outcome <> 'DEAD' THEN q.position END,
        leased_until = NULL,
        lease_token = NULL,
        leased_by = NULL,
        is_counted = false,
        updated_at = now()
      FROM given AS g
      WHERE q.tenant_id = g.tenant_id
        AND q.id = g.id
        AND q.lease_token = g.lease_token
        AND g.outcome <> 'EXECUTED'
        AND q.held_by IS NULL
      RETURNING q.tenant_id, q.id, q.attempts, g.event_id, g.outcome, g.detail, nullif(q.due_at, 'infinity') AS next_retry_at,
        q.is_awaited AND g.outcome <> 'FAILED' AS is_awaited
    ),
    moves AS MATERIALIZED (
      SELECT m.*, e.version, e.correlation_id, e.last_event_id, clock_timestamp() AS occurred_at
      FROM (
        SELECT * FROM finished
        UNION ALL
        SELECT * FROM kept
      ) AS m
      CROSS JOIN LATERAL (
        SELECT e.version, e.correlation_id, e.last_event_id
        FROM effects AS e
        WHERE e.tenant_id = m.tenant_id
          AND e.id = m.id
          AND e.status = 'PENDING'
        LIMIT 1
      ) AS e
    ),
    recorded AS (
      INSERT INTO orchestration_events (
        tenant_id, id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
        correlation_id, causation_id, actor, source, occurred_at
      )
      SELECT
        m.tenant_id,
        m.event_id,
        CASE m.outcome
          WHEN 'EXECUTED' THEN 'EFFECT_EXECUTED'
          WHEN 'FAILED' THEN 'EFFECT_ATTEMPT_FAILED'
          WHEN 'CANCELLED' THEN 'EFFECT_CANCELLED'
          ELSE 'EFFECT_DEAD_LETTERED'
        END,
        1,
        'EFFECT',
        m.id,
        m.version + 1,
        CASE m.outcome
          WHEN 'EXECUTED' THEN jsonb_build_object('retry_count', m.attempts - 1, 'execution_result', m.detail)
          WHEN 'FAILED' THEN jsonb_build_object('retry_count', m.attempts, 'error_details', m.detail, 'next_retry_at', m.next_retry_at)
          WHEN 'CANCELLED' THEN jsonb_build_object(
            'retry_count', m.attempts, 'error_details', m.detail, 'reason', 'it was cancelled while it was being delivered'
          )
          WHEN 'DEAD' THEN jsonb_build_object('retry_count', m.attempts, 'error_details', m.detail)
          ELSE jsonb_build_object('retry_count', m.attempts, 'error_details', m.detail, 'blocks_key', true)
        END,
        m.correlation_id,
        m.last_event_id,
        settle_outbox.actor,
        'outbox',
        m.occurred_at
      FROM moves AS m
    ),
    effects_moved AS (
      UPDATE effects AS e
      SET
        status = CASE m.outcome WHEN 'EXECUTED' THEN 'EXECUTED' WHEN 'FAILED' THEN 'PENDING' WHEN 'CANCELLED' THEN 'CANCELLED' ELSE 'DEAD_LETTER' END,
        version = m.version + 1,
        last_event_id = m.event_id,
        updated_at = greatest(e.updated_at, now()),
        retry_count = CASE m.outcome WHEN 'EXECUTED' THEN m.attempts - 1 ELSE m.attempts END,
        next_retry_at = m.next_retry_at,
        execution_result = CASE m.outcome WHEN 'EXECUTED' THEN nullif(m.detail, 'null') ELSE e.execution_result END,
        error_details = CASE m.outcome WHEN 'EXECUTED' THEN e.error_details ELSE nullif(m.detail, 'null') END,
        executed_at = CASE m.outcome WHEN 'EXECUTED' THEN m.occurred_at ELSE e.executed_at END
      FROM moves AS m
      WHERE e.tenant_id = m.tenant_id
        AND e.id = m.id
        AND e.version = m.version
      RETURNING e.id
    ),
    entries_moved AS (
      UPDATE outbox_events AS o
      SET
        status = CASE m.outcome WHEN 'EXECUTED' THEN 'PUBLISHED' WHEN 'FAILED' THEN 'PENDING' WHEN 'CANCELLED' THEN 'CANCELLED' ELSE 'DEAD_LETTER' END,
        version = m.version + 1,
        last_event_id = m.event_id,
        updated_at = greatest(o.updated_at, now()),
        retry_count = CASE m.outcome WHEN 'EXECUTED' THEN m.attempts - 1 ELSE m.attempts END,
        next_retry_at = m.next_retry_at,
        error_details = CASE m.outcome WHEN 'EXECUTED' THEN o.error_details ELSE nullif(m.detail, 'null') END,
        published_at = CASE m.outcome WHEN 'EXECUTED' THEN m.occurred_at ELSE o.published_at END,
        blocks_key = CASE m.outcome WHEN 'BLOCKED' THEN true ELSE o.blocks_key END
      FROM moves AS m
      WHERE o.tenant_id = m.tenant_id
        AND o.id = m.id
        AND o.version = m.version
        AND o.status = 'PENDING'
      RETURNING o.id, o.tenant_id, o.ordering_key, m.outcome
    )
    SELECT
      ARRAY(SELECT o.id FROM entries_moved AS o) AS ids,
      (SELECT count(*) FROM effects_moved) AS effects,
      (SELECT count(*) FROM finished) + (SELECT count(*) FROM kept) AS queued,
      ARRAY(SELECT o.tenant_id FROM entries_moved AS o WHERE o.ordering_key IS NOT NULL AND o.outcome IN ('EXECUTED', 'DEAD', 'CANCELLED')) AS key_tenants,
      ARRAY(SELECT o.ordering_key FROM entries_moved AS o WHERE o.ordering_key IS NOT NULL AND o.outcome IN ('EXECUTED', 'DEAD', 'CANCELLED')) AS keys,
      ARRAY(SELECT m.id FROM moves AS m WHERE m.is_awaited) AS awaited
    INTO settled;
  EXCEPTION WHEN unique_violation THEN
    -- Its cancellation was recorded while this statement waited for the queue: what it saw of the effect is of before.
    RAISE EXCEPTION USING
      ERRCODE = 'serialization_failure',
      MESSAGE = 'an effect was cancelled while it was being settled',
      HINT = 'Repeat the call.';
  END;
  IF settled.queued < cardinality(ids) AND EXISTS (
    SELECT
    FROM unnest(tenant_ids, ids, lease_tokens) AS g (tenant_id, id, lease_token)
    JOIN outbox_queue AS q ON q.tenant_id = g.tenant_id AND q.id = g.id AND q.lease_token = g.lease_token
    WHERE q.held_by = 'CANCELLED'
  ) THEN
    -- The same, but the entry was cancelled, and is still held by this worker: neither arm above has seen it as it is now.
    RAISE EXCEPTION USING
      ERRCODE = 'serialization_failure',
      MESSAGE = 'an effect was cancelled while it was being settled',
      HINT = 'Repeat the call.';
  END IF;

  IF cardinality(settled.ids) <> settled.queued OR settled.effects <> settled.queued THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE002',
      MESSAGE = format('the queue has %s of these entries, but %s effects and %s entries are pending', settled.queued, settled.effects,
        cardinality(settled.ids)),
      HINT = 'Queue, effects and entries disagree: see what persistence fit says.';
  END IF;
  IF cardinality(settled.keys) > 0 THEN
    PERFORM open_keys(settled.key_tenants, settled.keys);
  END IF;
  IF cardinality(settled.awaited) > 0 THEN
    PERFORM wake_runs(array_agg(f.tenant_id), array_agg(f.run_id))
    FROM unnest(tenant_ids, settle_outbox.ids) AS g (tenant_id, id)
    JOIN effects AS f ON f.tenant_id = g.tenant_id AND f.id = g.id
    WHERE g.id = ANY (settled.awaited);
  END IF;
  RETURN settled.ids;
END
$$;

-- Settles a batch of leased entries of any tenants: queue, event, effect and record move together. An entry whose lease_token is no longer
-- the one given is left alone: somebody else has it.
--
-- The arrays go side by side, one element an entry:
--   outcomes: EXECUTED (delivered), FAILED (to be tried again after `delays`), DEAD (never again)
--   details: the result of an executed entry, the error of another, as JSON
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
  batch orchestration_events[];
BEGIN
  WITH given AS (
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
      AND g.outcome IN ('EXECUTED', 'DEAD')
    RETURNING q.tenant_id, q.id, q.attempts, g.event_id, g.outcome, g.detail, NULL::timestamptz AS next_retry_at
  ),
  postponed AS (
    UPDATE outbox_queue AS q
    SET due_at = now() + g.delay, lease_token = NULL, leased_by = NULL, updated_at = now()
    FROM given AS g
    WHERE q.tenant_id = g.tenant_id
      AND q.id = g.id
      AND q.lease_token = g.lease_token
      AND g.outcome = 'FAILED'
    RETURNING q.tenant_id, q.id, q.attempts, g.event_id, g.outcome, g.detail, q.due_at AS next_retry_at
  ),
  settled AS (
    SELECT * FROM finished
    UNION ALL
    SELECT * FROM postponed
  ),
  inserted AS (
    INSERT INTO orchestration_events AS log (
      tenant_id, id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
      correlation_id, causation_id, actor, source, occurred_at
    )
    SELECT
      s.tenant_id,
      s.event_id,
      CASE s.outcome WHEN 'EXECUTED' THEN 'EFFECT_EXECUTED' WHEN 'FAILED' THEN 'EFFECT_ATTEMPT_FAILED' ELSE 'EFFECT_DEAD_LETTERED' END,
      1,
      'EFFECT',
      s.id,
      e.version + 1,
      CASE s.outcome
        WHEN 'EXECUTED' THEN jsonb_build_object('retry_count', s.attempts - 1, 'execution_result', s.detail)
        WHEN 'FAILED' THEN jsonb_build_object('retry_count', s.attempts, 'error_details', s.detail, 'next_retry_at', s.next_retry_at)
        ELSE jsonb_build_object('retry_count', s.attempts, 'error_details', s.detail)
      END,
      e.correlation_id,
      e.last_event_id,
      settle_outbox.actor,
      'outbox',
      clock_timestamp()
    FROM settled AS s
    CROSS JOIN LATERAL (
      SELECT e.version, e.correlation_id, e.last_event_id
      FROM effects AS e
      WHERE e.tenant_id = s.tenant_id
        AND e.id = s.id
      LIMIT 1
    ) AS e
    RETURNING log.*
  )
  SELECT array_agg(i::orchestration_events) INTO batch FROM inserted AS i;

  IF batch IS NULL THEN
    RETURN '{}';
  END IF;
  PERFORM fold_events(batch);
  RETURN ARRAY(SELECT e.aggregate_id FROM unnest(batch) AS e);
END
$$;

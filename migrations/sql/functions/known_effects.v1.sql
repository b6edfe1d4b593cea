-- Of the effects requested in a batch, those whose idempotency key is known already under another id: the same request is answered with the
-- effect that is there, a different one under the same key is refused.
--
-- LATERAL with LIMIT asks the index once a row, also by a plan that was made while the tables were empty.
CREATE FUNCTION persistence.known_effects(tenant_id uuid, events jsonb) RETURNS jsonb
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  known jsonb;
  mismatch jsonb;
BEGIN
  WITH requested AS MATERIALIZED (
    SELECT
      r.event ->> 'id' AS event_id,
      (r.event ->> 'aggregate_id')::uuid AS effect_id,
      r.event #>> '{event_data,effect_spec,idempotency_key}' AS idempotency_key,
      r.event #>> '{event_data,effect_type}' AS effect_type,
      r.event #> '{event_data,effect_spec}' AS effect_spec,
      r.position
    FROM jsonb_array_elements(events) WITH ORDINALITY AS r (event, position)
    WHERE r.event ->> 'event_type' = 'EFFECT_REQUESTED'
  ),
  -- a key named twice in one batch: the first request counts
  earlier AS (
    SELECT r.*, first_value(r.effect_id) OVER same_key AS first_id,
      first_value(r.effect_type) OVER same_key AS first_type, first_value(r.effect_spec) OVER same_key AS first_spec
    FROM requested AS r
    WINDOW same_key AS (PARTITION BY r.idempotency_key ORDER BY r.position)
  )
  SELECT
    jsonb_agg(jsonb_build_object(
      'event_id', r.event_id, 'requested_id', r.effect_id, 'aggregate_id', coalesce(o.id, r.first_id), 'sequence_number', e.sequence_number
    )),
    jsonb_agg(jsonb_build_object('key', r.idempotency_key, 'id', coalesce(o.id, r.first_id)))
      FILTER (WHERE r.effect_type <> coalesce(o.event_type, r.first_type) OR r.effect_spec <> coalesce(o.payload, r.first_spec))
      -> 0
  INTO known, mismatch
  FROM earlier AS r
  LEFT JOIN LATERAL (
    SELECT o.id, o.event_type, o.payload
    FROM outbox_events AS o
    WHERE o.tenant_id = known_effects.tenant_id
      AND o.idempotency_key = r.idempotency_key
    LIMIT 1
  ) AS o ON true
  LEFT JOIN LATERAL (
    SELECT e.sequence_number
    FROM orchestration_events AS e
    WHERE e.tenant_id = known_effects.tenant_id
      AND e.aggregate_id = o.id
      AND e.aggregate_version = 1
    LIMIT 1
  ) AS e ON true
  WHERE r.effect_id <> coalesce(o.id, r.first_id);

  IF mismatch IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE004',
      MESSAGE = format(
        'idempotency key %L belongs to effect %s, which has another type or spec', mismatch ->> 'key', mismatch ->> 'id'
      ),
      HINT = 'Use one key for one request; a changed request needs a key of its own.';
  END IF;
  RETURN coalesce(known, '[]');
END
$$;

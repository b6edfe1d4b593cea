-- Keeps the work list in step with effects that were requested, requeued, cancelled or discarded. (Those that were tried are moved by settle_outbox.)
-- Of an effect whose cancellation was requested the entry stays with the worker that has it.
CREATE FUNCTION persistence.queue_effects(deltas persistence.aggregate_delta[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
  delta aggregate_delta;
  requests integer := 0;
  has_changes boolean := false;
  leased_id uuid;
  key_tenants uuid[];
  keys text[];
  done boolean;
BEGIN
  FOREACH delta IN ARRAY deltas LOOP
    CONTINUE WHEN delta.aggregate_type <> 'EFFECT';
    IF delta.first_version > 1 THEN
      has_changes := true;
    ELSE
      requests := requests + 1;
      IF delta.doc ? 'ordering_key' THEN
        key_tenants := key_tenants || delta.tenant_id;
        keys := keys || (delta.doc ->> 'ordering_key');
      END IF;
    END IF;
  END LOOP;

  IF requests > 0 THEN
    done := queue_requests(deltas, requests, 0);
  END IF;
  IF has_changes THEN
    SELECT key_tenants || array_agg(o.tenant_id), keys || array_agg(o.ordering_key)
    INTO key_tenants, keys
    FROM unnest(deltas) AS d
    JOIN outbox_events AS o ON o.tenant_id = d.tenant_id AND o.id = d.id
    WHERE d.aggregate_type = 'EFFECT'
      AND d.first_version > 1
      AND o.ordering_key IS NOT NULL;
    PERFORM lock_keys(key_tenants, keys);

    -- from here on nobody can claim them
    PERFORM
    FROM unnest(deltas) AS d
    JOIN outbox_queue AS q ON q.tenant_id = d.tenant_id AND q.id = d.id
    WHERE d.first_version > 1
    FOR UPDATE OF q;
    SELECT q.id
    INTO leased_id
    FROM unnest(deltas) AS d
    JOIN outbox_queue AS q ON q.tenant_id = d.tenant_id AND q.id = d.id
    WHERE d.status = 'CANCELLED'
      AND q.leased_until > now()
    LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE010',
        MESSAGE = format('effect %s is being delivered at this moment', leased_id),
        HINT = 'Wait for the attempt to end; cancel it if it is pending then.';
    END IF;

    UPDATE outbox_queue AS q
    SET held_by = 'CANCELLED', due_at = 'infinity', updated_at = now()
    FROM unnest(deltas) AS d
    WHERE d.aggregate_type = 'EFFECT'
      AND d.first_event_type = 'EFFECT_CANCEL_REQUESTED'
      AND q.tenant_id = d.tenant_id
      AND q.id = d.id;

    -- also those that are dead letters in their place: requeued ones come back below
    DELETE FROM outbox_queue AS q
    USING unnest(deltas) AS d
    WHERE d.aggregate_type = 'EFFECT'
      AND d.first_version > 1
      AND d.first_event_type <> 'EFFECT_CANCEL_REQUESTED'
      AND q.tenant_id = d.tenant_id
      AND q.id = d.id;

    PERFORM queue_again(ARRAY(SELECT d.tenant_id FROM unnest(deltas) AS d), ARRAY(
      SELECT CASE WHEN d.first_event_type = 'EFFECT_REQUEUED' THEN d.id END FROM unnest(deltas) AS d
    ));
  END IF;

  IF keys IS NOT NULL THEN
    PERFORM open_keys(key_tenants, keys);
  END IF;
END
$$;

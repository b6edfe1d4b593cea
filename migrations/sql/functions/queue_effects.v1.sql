-- Keeps the work list in step with effects that were requested, requeued or cancelled. (Those that were delivered are taken off by settle_outbox.)
CREATE FUNCTION persistence.queue_effects(deltas persistence.aggregate_delta[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
  leased_id uuid;
BEGIN
  IF (
    SELECT c.relpages * 10 < pg_relation_size(c.oid) / current_setting('block_size')::integer AND pg_relation_size(c.oid) > 65536
    FROM pg_class AS c
    WHERE c.oid = 'outbox_events'::regclass
  ) THEN
    PERFORM learn_sizes();  -- ten times as large as the planner knows
  END IF;

  INSERT INTO outbox_queue (tenant_id, id, effect_type, due_at)
  SELECT o.tenant_id, o.id, o.event_type, greatest(coalesce(o.next_retry_at, now()), now())
  FROM unnest(deltas) AS d
  CROSS JOIN LATERAL (
    SELECT o.tenant_id, o.id, o.event_type, o.next_retry_at
    FROM outbox_events AS o
    WHERE o.tenant_id = d.tenant_id
      AND o.id = d.id
    LIMIT 1
  ) AS o
  WHERE d.aggregate_type = 'EFFECT'
    AND d.status = 'PENDING';

  IF EXISTS (SELECT FROM unnest(deltas) AS d WHERE d.aggregate_type = 'EFFECT' AND d.status = 'CANCELLED' AND d.first_version > 1) THEN
    SELECT q.id
    INTO leased_id
    FROM unnest(deltas) AS d
    JOIN outbox_queue AS q ON q.tenant_id = d.tenant_id AND q.id = d.id
    WHERE d.status = 'CANCELLED'
      AND q.lease_token IS NOT NULL
      AND q.due_at > now()
    LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE010',
        MESSAGE = format('effect %s is being delivered at this moment', leased_id),
        HINT = 'Wait for the attempt to end; cancel it if it is pending then.';
    END IF;
    DELETE FROM outbox_queue AS q
    USING unnest(deltas) AS d
    WHERE d.aggregate_type = 'EFFECT'
      AND d.status = 'CANCELLED'
      AND q.tenant_id = d.tenant_id
      AND q.id = d.id;
  END IF;
END
$$;

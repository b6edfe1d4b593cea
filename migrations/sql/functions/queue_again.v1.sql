-- Puts pending entries back into the queue, from their records; those with an ordering key wait for their turn (open_keys).
CREATE FUNCTION persistence.queue_again(tenant_ids uuid[], ids uuid[]) RETURNS void
LANGUAGE sql
AS $$
  WITH queued AS (
    INSERT INTO persistence.outbox_queue (
      tenant_id, id, effect_type, due_at, attempts, priority, ordering_key, position, held_by, destination, is_awaited
    )
    SELECT
      o.tenant_id,
      o.id,
      o.event_type,
      CASE WHEN o.ordering_key IS NULL THEN greatest(o.next_retry_at, now()) ELSE 'infinity' END,
      o.retry_count,
      o.priority,
      o.ordering_key,
      CASE WHEN o.ordering_key IS NOT NULL THEN (
        SELECT e.sequence_number
        FROM persistence.orchestration_events AS e
        WHERE e.tenant_id = o.tenant_id
          AND e.aggregate_id = o.id
          AND e.aggregate_version = 1
      ) END,
      CASE WHEN o.ordering_key IS NOT NULL THEN 'KEY' END,
      o.destination,
      (SELECT f.is_awaited FROM persistence.effects AS f WHERE f.tenant_id = o.tenant_id AND f.id = o.id) IS TRUE
    FROM unnest(tenant_ids, ids) AS g (tenant_id, id)
    JOIN persistence.outbox_events AS o ON o.tenant_id = g.tenant_id AND o.id = g.id
    RETURNING tenant_id, effect_type
  )
  SELECT persistence.leave_marks(array_agg(q.tenant_id), array_agg(q.effect_type)) FROM queued AS q
$$;

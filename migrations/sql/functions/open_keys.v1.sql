-- Lets the first entry of each of these ordering keys have its turn, unless one of the key has it already, or the first lets nothing past. Waits for
-- nobody: whoever holds the first entry's row gives turns when it commits, or else sweep_keys does.
CREATE FUNCTION persistence.open_keys(tenant_ids uuid[], keys text[]) RETURNS void
LANGUAGE sql
AS $$
  WITH opened AS (
    UPDATE persistence.outbox_queue AS q
    SET held_by = NULL, due_at = greatest(coalesce(o.next_retry_at, now()), now()), updated_at = now()
    FROM (
      SELECT DISTINCT k.tenant_id, k.ordering_key
      FROM unnest(tenant_ids, keys) AS k (tenant_id, ordering_key)
      WHERE k.ordering_key IS NOT NULL
    ) AS k
    CROSS JOIN LATERAL (
      SELECT f.id, f.held_by
      FROM persistence.outbox_queue AS f
      WHERE f.tenant_id = k.tenant_id
        AND f.ordering_key = k.ordering_key
      ORDER BY f.position
      LIMIT 1
    ) AS f
    CROSS JOIN LATERAL (
      SELECT l.id
      FROM persistence.outbox_queue AS l
      WHERE l.tenant_id = k.tenant_id
        AND l.id = f.id
      FOR UPDATE SKIP LOCKED
    ) AS l
    CROSS JOIN LATERAL (
      SELECT o.next_retry_at
      FROM persistence.outbox_events AS o
      WHERE o.tenant_id = k.tenant_id
        AND o.id = f.id
      LIMIT 1
    ) AS o
    WHERE f.held_by = 'KEY'
      AND NOT EXISTS (
        SELECT
        FROM persistence.outbox_queue AS a
        WHERE a.tenant_id = k.tenant_id
          AND a.ordering_key = k.ordering_key
          AND a.held_by IS NULL
      )
      AND q.tenant_id = k.tenant_id
      AND q.id = l.id
    RETURNING q.tenant_id, q.effect_type
  )
  SELECT persistence.leave_marks(array_agg(o.tenant_id), array_agg(o.effect_type)) FROM opened AS o
$$;

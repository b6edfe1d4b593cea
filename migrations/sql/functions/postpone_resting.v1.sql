-- Of entries just claimed, puts off those whose destination rests: their attempts do not count. Where the rest is over, one entry stays as a probe
-- and the others wait for what comes of it, for five seconds at most: then another goes. Returns the ids that were put off.
CREATE FUNCTION persistence.postpone_resting(tenants uuid[], ids uuid[]) RETURNS uuid[]
LANGUAGE plpgsql
AS $$
DECLARE
  probes uuid[];
  postponed uuid[];
BEGIN
  WITH rested AS (
    SELECT DISTINCT ON (d.tenant_id, d.id) d.tenant_id, d.id AS destination_id, q.id
    FROM unnest(tenants, ids) AS g (tenant_id, id)
    JOIN outbox_queue AS q ON q.tenant_id = g.tenant_id AND q.id = g.id
    JOIN outbox_destinations AS d ON d.tenant_id = q.tenant_id AND d.destination = q.destination
    WHERE d.open_until <= now()
    ORDER BY d.tenant_id, d.id, q.due_at
  ),
  probed AS (
    UPDATE outbox_destinations AS d
    SET open_until = now() + interval '5 seconds', updated_at = now()
    FROM (
      SELECT r.id, f.tenant_id, f.id AS destination_id
      FROM rested AS r
      JOIN outbox_destinations AS f ON f.tenant_id = r.tenant_id AND f.id = r.destination_id
      WHERE f.open_until <= now()
      FOR UPDATE OF f SKIP LOCKED
    ) AS r
    WHERE d.tenant_id = r.tenant_id
      AND d.id = r.destination_id
    RETURNING r.id
  )
  SELECT array_agg(p.id) INTO probes FROM probed AS p;

  WITH put_off AS (
    UPDATE outbox_queue AS q
    SET
      due_at = d.open_until + random() * interval '1 second',
      attempts = q.attempts - 1,
      leased_until = NULL,
      lease_token = NULL,
      leased_by = NULL,
      is_counted = false,
      updated_at = now()
    FROM unnest(tenants, ids) AS g (tenant_id, id), outbox_destinations AS d
    WHERE q.tenant_id = g.tenant_id
      AND q.id = g.id
      AND d.tenant_id = q.tenant_id
      AND d.destination = q.destination
      AND d.open_until > now()
      AND q.id <> ALL (coalesce(probes, '{}'))
    RETURNING q.id
  )
  SELECT array_agg(p.id) INTO postponed FROM put_off AS p;
  RETURN coalesce(postponed, '{}');
END
$$;

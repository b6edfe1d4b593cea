-- Puts effects that were requested into the queue; those with an ordering key wait for their turn (open_keys).
-- Where there is no mark yet each of those that come at once leaves one, and one of them makes the stream; none waits for another. Should that one be taken
-- back, sweep_outbox makes it.
CREATE FUNCTION persistence.queue_requests{one}({deltas}) RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
  IF EXISTS (
    SELECT
    FROM (SELECT DISTINCT d.tenant_id, d.doc ->> 'effect_type' AS effect_type {those_that_begin EFFECT}) AS r
    WHERE NOT EXISTS (
      SELECT
      FROM outbox_marks AS m
      WHERE m.tenant_id = r.tenant_id
        AND m.effect_type = r.effect_type
    )
  ) THEN
    PERFORM leave_marks(array_agg(d.tenant_id), array_agg(d.doc ->> 'effect_type'))
    {those_that_begin EFFECT};
    INSERT INTO outbox_streams (tenant_id, effect_type)
    SELECT n.tenant_id, n.effect_type
    FROM (
      SELECT DISTINCT d.tenant_id, d.doc ->> 'effect_type' AS effect_type
      {those_that_begin EFFECT}
    ) AS n
    WHERE NOT EXISTS (SELECT FROM outbox_streams AS s WHERE s.tenant_id = n.tenant_id AND s.effect_type = n.effect_type)
      AND pg_try_advisory_xact_lock(plane_lock('stream' || n.tenant_id || n.effect_type))
    ON CONFLICT DO NOTHING;
  END IF;

  INSERT INTO outbox_queue (tenant_id, id, effect_type, due_at, priority, ordering_key, position, held_by, destination, is_awaited)
  SELECT
    d.tenant_id,
    d.id,
    d.doc ->> 'effect_type',
    CASE
      WHEN d.doc ->> 'ordering_key' IS NOT NULL THEN 'infinity'
      ELSE greatest((d.doc ->> 'next_retry_at')::timestamptz, statement_timestamp())
    END,
    coalesce((d.doc ->> 'priority')::smallint, 0),
    d.doc ->> 'ordering_key',
    CASE WHEN d.doc ->> 'ordering_key' IS NOT NULL THEN d.first_number END,
    CASE WHEN d.doc ->> 'ordering_key' IS NOT NULL THEN 'KEY' END,
    d.doc ->> 'destination',
    (d.doc ->> 'is_awaited')::boolean IS TRUE
  {those_that_begin EFFECT}
    AND d.status = 'PENDING';
  RETURN true;
END
$$;

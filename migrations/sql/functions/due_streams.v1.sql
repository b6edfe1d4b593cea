-- Tenants with due entries of an effect type, at most `most` of them, each with an equal share of `most`. Each call begins at another tenant, so
-- that all get their turn.
CREATE FUNCTION persistence.due_streams(effect_type text, most integer) RETURNS persistence.outbox_share[]
LANGUAGE plpgsql
AS $$
DECLARE
  beginning CONSTANT uuid := gen_random_uuid();
BEGIN
  RETURN (
    SELECT array_agg(ROW(d.tenant_id, d.swept_to, d.share, NULL, false)::outbox_share)
    FROM (
      SELECT d.tenant_id, d.swept_to, ceil(most::numeric / count(*) OVER ())::integer AS share
      FROM (
        SELECT s.tenant_id, s.swept_to
        FROM (
          (
            SELECT s.tenant_id, s.swept_to
            FROM outbox_streams AS s
            WHERE s.effect_type = due_streams.effect_type
              AND s.id >= beginning
            ORDER BY s.id
          )
          UNION ALL
          (
            SELECT s.tenant_id, s.swept_to
            FROM outbox_streams AS s
            WHERE s.effect_type = due_streams.effect_type
              AND s.id < beginning
            ORDER BY s.id
          )
        ) AS s
        WHERE EXISTS (
          SELECT
          FROM outbox_queue AS q
          WHERE q.effect_type = due_streams.effect_type
            AND q.tenant_id = s.tenant_id
            AND q.due_at >= s.swept_to
            AND q.due_at <= now()
            AND (q.leased_until IS NULL OR q.leased_until <= now())
        )
        LIMIT most
      ) AS d
    ) AS d
  );
END
$$;

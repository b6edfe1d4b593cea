-- Of the streams that these marks are of, those with something due, at most `most` of them, drawn by the weights of their tenants (Efraimidis and Spirakis 2006).
CREATE FUNCTION persistence.drawn_streams(marks persistence.outbox_marks[], most integer) RETURNS persistence.outbox_share[]
LANGUAGE plpgsql
AS $$
BEGIN
  RETURN (
    SELECT array_agg(ROW(d.tenant_id, d.swept_to, d.share, NULL, false)::outbox_share)
    FROM (
      SELECT d.tenant_id, d.swept_to, ceil(most::numeric / count(*) OVER ())::integer AS share
      FROM (
        SELECT s.tenant_id, s.swept_to
        FROM (
          SELECT m.tenant_id, m.effect_type, max(m.swept_to) AS swept_to
          FROM unnest(marks) AS m
          GROUP BY m.tenant_id, m.effect_type
        ) AS s
        LEFT JOIN LATERAL (
          SELECT l.weight
          FROM outbox_limits AS l
          WHERE l.tenant_id = s.tenant_id
            AND l.effect_type IN (s.effect_type, '*')
          ORDER BY l.effect_type = '*'
          LIMIT 1
        ) AS l ON true
        WHERE EXISTS (
          SELECT
          FROM outbox_queue AS q
          WHERE q.effect_type = s.effect_type
            AND q.tenant_id = s.tenant_id
            AND q.due_at >= s.swept_to
            AND q.due_at <= now()
            AND (q.leased_until IS NULL OR q.leased_until <= now())
        )
        ORDER BY -ln(1 - random()) / coalesce(l.weight, 1)
        LIMIT most
      ) AS d
    ) AS d
  );
END
$$;

-- Shares by the tenants' weights, and what their limits leave of them. Tenants without anything left drop out.
CREATE FUNCTION persistence.limited_shares(effect_type text, due persistence.outbox_share[], wanted integer, is_counted boolean)
RETURNS persistence.outbox_share[]
LANGUAGE plpgsql
AS $$
BEGIN
  RETURN (
    SELECT array_agg(ROW(w.tenant_id, w.swept_to, least(w.share, w.cap), w.cap, w.cap IS NOT NULL OR is_counted)::outbox_share)
    FROM (
      SELECT
        w.tenant_id,
        w.swept_to,
        ceil(wanted * w.weight::numeric / sum(w.weight) OVER ())::integer AS share,
        least(
          outbox_allowance(w.tenant_id, limited_shares.effect_type),
          CASE WHEN w.has_total THEN outbox_allowance(w.tenant_id, '*') END
        ) AS cap
      FROM (
        SELECT
          d.tenant_id,
          d.swept_to,
          coalesce(
            (array_agg(l.weight) FILTER (WHERE l.effect_type = limited_shares.effect_type))[1],
            (array_agg(l.weight) FILTER (WHERE l.effect_type = '*'))[1],
            1
          ) AS weight,
          count(*) FILTER (WHERE l.effect_type = '*') > 0 AS has_total
        FROM unnest(due) AS d
        LEFT JOIN outbox_limits AS l ON l.tenant_id = d.tenant_id AND l.effect_type IN (limited_shares.effect_type, '*')
        GROUP BY d.tenant_id, d.swept_to
      ) AS w
    ) AS w
    WHERE w.cap IS NULL OR w.cap > 0
  );
END
$$;

-- Effect types with entries that have been due for longer than `grace`, and that no worker has handled for as long, besides those that are known to
-- the one that asks. Claims of them begin at the beginning again.
CREATE FUNCTION persistence.unknown_types(known text[], grace interval) RETURNS text[]
LANGUAGE sql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
  WITH forgotten AS (
    SELECT s.tenant_id, s.effect_type
    FROM outbox_streams AS s
    WHERE s.effect_type <> ALL (known)
      AND coalesce(s.handled_at, s.created_at) < now() - grace
      AND EXISTS (
        SELECT
        FROM outbox_queue AS q
        WHERE q.effect_type = s.effect_type
          AND q.tenant_id = s.tenant_id
          AND q.due_at < now() - grace
          AND (q.leased_until IS NULL OR q.leased_until <= now())
      )
  ),
  marked AS (
    UPDATE outbox_marks AS m
    SET swept_to = '-infinity', updated_at = now()
    FROM forgotten AS f
    WHERE m.tenant_id = f.tenant_id
      AND m.effect_type = f.effect_type
  ),
  left_anew AS (
    INSERT INTO outbox_marks (tenant_id, effect_type)
    SELECT f.tenant_id, f.effect_type
    FROM forgotten AS f
    WHERE NOT EXISTS (SELECT FROM outbox_marks AS m WHERE m.tenant_id = f.tenant_id AND m.effect_type = f.effect_type)
  )
  SELECT coalesce(array_agg(DISTINCT f.effect_type ORDER BY f.effect_type), '{}') FROM forgotten AS f
$$;

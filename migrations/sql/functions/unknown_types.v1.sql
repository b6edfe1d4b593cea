-- Effect types with entries that have been due for longer than `grace`, besides those that are known.
CREATE FUNCTION persistence.unknown_types(known text[], grace interval) RETURNS text[]
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
  SELECT coalesce(array_agg(DISTINCT s.effect_type ORDER BY s.effect_type), '{}')
  FROM outbox_streams AS s
  WHERE s.effect_type <> ALL (known)
    AND EXISTS (
      SELECT
      FROM outbox_queue AS q
      WHERE q.effect_type = s.effect_type
        AND q.tenant_id = s.tenant_id
        AND q.due_at < now() - grace
        AND (q.leased_until IS NULL OR q.leased_until <= now())
    )
$$;

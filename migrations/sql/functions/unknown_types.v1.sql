-- Effect types with entries that have been due for longer than `grace`, and that no worker has handled for as long, besides those that are known to
-- the one that asks. Claims of them begin at the beginning again.
CREATE FUNCTION persistence.unknown_types(known text[], grace interval) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
DECLARE
  tenants uuid[];
  types text[];
BEGIN
  SELECT array_agg(s.tenant_id), array_agg(s.effect_type)
  INTO tenants, types
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
    );
  UPDATE outbox_marks AS m
  SET swept_to = '-infinity', updated_at = now()
  FROM unnest(tenants, types) AS f (tenant_id, effect_type)
  WHERE m.tenant_id = f.tenant_id
    AND m.effect_type = f.effect_type;
  PERFORM leave_marks(tenants, types);
  RETURN ARRAY(SELECT DISTINCT t.effect_type FROM unnest(types) AS t (effect_type) ORDER BY t.effect_type);
END
$$;

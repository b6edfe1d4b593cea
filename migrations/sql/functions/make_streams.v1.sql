-- Makes the streams of these types that queued entries have, and that were taken back by whoever was to make them; and leaves marks where something comes
-- due within `soon` and has none. One look at the index for each tenant.
CREATE FUNCTION persistence.make_streams(effect_types text[], soon interval) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
  kind text;
  tenant uuid;
BEGIN
  FOREACH kind IN ARRAY effect_types LOOP
    tenant := '00000000-0000-0000-0000-000000000000';
    LOOP
      SELECT q.tenant_id
      INTO tenant
      FROM outbox_queue AS q
      WHERE q.effect_type = kind
        AND q.tenant_id > tenant
      ORDER BY q.tenant_id
      LIMIT 1;
      EXIT WHEN NOT FOUND;
      INSERT INTO outbox_streams (tenant_id, effect_type)
      SELECT tenant, kind
      WHERE NOT EXISTS (SELECT FROM outbox_streams AS s WHERE s.tenant_id = tenant AND s.effect_type = kind)
        AND pg_try_advisory_xact_lock(plane_lock('stream' || tenant || kind))
      ON CONFLICT DO NOTHING;
      INSERT INTO outbox_marks (tenant_id, effect_type)
      SELECT tenant, kind
      WHERE NOT EXISTS (SELECT FROM outbox_marks AS m WHERE m.tenant_id = tenant AND m.effect_type = kind)
        AND EXISTS (SELECT FROM outbox_queue AS q WHERE q.effect_type = kind AND q.tenant_id = tenant AND q.due_at < now() + soon);
    END LOOP;
  END LOOP;
END
$$;

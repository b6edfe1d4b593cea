-- Sets what a tenant may have of the outbox's work at a time: see outbox_limits. An event records it. Weight 1 and no limits: the row goes.
-- Returns false when nothing changes.
CREATE FUNCTION persistence.set_outbox_limit(
  tenant_id uuid, effect_type text, weight integer, max_concurrency integer, max_rate double precision, actor text
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(plane_lock(set_outbox_limit.tenant_id::text));
  IF NOT EXISTS (SELECT FROM tenants AS t WHERE t.tenant_id = set_outbox_limit.tenant_id) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE003',
      MESSAGE = format('there is no tenant %s', set_outbox_limit.tenant_id),
      HINT = 'List the tenants with: persistence tenant list';
  END IF;
  IF set_outbox_limit.tenant_id = system_tenant_id() AND set_outbox_limit.effect_type = '*' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = 'effect_type: a limit for all tenants is of one effect type',
      HINT = 'Name the effect type.';
  END IF;
  IF weight = 1 AND max_concurrency IS NULL AND max_rate IS NULL THEN
    DELETE FROM outbox_limits AS l
    WHERE l.tenant_id = set_outbox_limit.tenant_id
      AND l.effect_type = set_outbox_limit.effect_type;
  ELSE
    INSERT INTO outbox_limits AS l (tenant_id, effect_type, weight, max_concurrency, max_rate)
    VALUES (
      set_outbox_limit.tenant_id, set_outbox_limit.effect_type, set_outbox_limit.weight, set_outbox_limit.max_concurrency,
      set_outbox_limit.max_rate
    )
    ON CONFLICT ON CONSTRAINT outbox_limits_effect_type_key DO UPDATE
    SET weight = excluded.weight, max_concurrency = excluded.max_concurrency, max_rate = excluded.max_rate, updated_at = now()
    WHERE (l.weight, l.max_concurrency, l.max_rate) IS DISTINCT FROM (excluded.weight, excluded.max_concurrency, excluded.max_rate);
  END IF;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM append_tenant_event(
    set_outbox_limit.tenant_id,
    'TENANT_LIMIT_SET',
    jsonb_build_object('effect_type', effect_type, 'weight', weight, 'max_concurrency', max_concurrency, 'max_rate', max_rate),
    set_outbox_limit.actor
  );
  RETURN true;
END
$$;

-- Takes claimed attempts off the accounts of the rates they count against. tenants: one element an attempt.
CREATE FUNCTION persistence.spend_tokens(effect_type text, tenants uuid[]) RETURNS void
LANGUAGE sql
AS $$
  UPDATE persistence.outbox_limits AS l
  SET tokens = persistence.outbox_tokens(l) - t.attempts, tokens_at = now(), updated_at = now()
  FROM (
    SELECT t.tenant_id, count(*) AS attempts
    FROM unnest(tenants) AS t (tenant_id)
    GROUP BY t.tenant_id
    UNION ALL
    SELECT persistence.system_tenant_id(), cardinality(tenants)
  ) AS t
  WHERE l.tenant_id = t.tenant_id
    AND l.effect_type IN (spend_tokens.effect_type, '*')
    AND l.max_rate IS NOT NULL
$$;

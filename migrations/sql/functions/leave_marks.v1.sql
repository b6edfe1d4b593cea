-- Leaves a mark where entries of these tenants and types were queued, unless there is one (outbox_marks).
CREATE FUNCTION persistence.leave_marks(tenant_ids uuid[], effect_types text[]) RETURNS void
LANGUAGE sql
AS $$
  INSERT INTO persistence.outbox_marks (tenant_id, effect_type)
  SELECT DISTINCT g.tenant_id, g.effect_type
  FROM unnest(tenant_ids, effect_types) AS g (tenant_id, effect_type)
  WHERE NOT EXISTS (
    SELECT
    FROM persistence.outbox_marks AS m
    WHERE m.tenant_id = g.tenant_id
      AND m.effect_type = g.effect_type
  )
$$;

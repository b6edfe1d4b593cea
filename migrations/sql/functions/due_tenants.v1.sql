-- Tenants with due entries of an effect type, at most `most` of them, beginning anywhere: each claim starts at another, so that all get
-- their turn. Hops from tenant to tenant along the index instead of reading the entries.
CREATE FUNCTION persistence.due_tenants(effect_type text, most integer) RETURNS uuid[]
LANGUAGE plpgsql
AS $$
DECLARE
  beginning uuid := gen_random_uuid();
  place uuid := beginning;
  found_tenants uuid[] := '{}';
  has_wrapped boolean := false;
  is_due boolean;
BEGIN
  WHILE cardinality(found_tenants) < most LOOP
    SELECT q.tenant_id
    INTO place
    FROM outbox_queue AS q
    WHERE q.effect_type = due_tenants.effect_type
      AND q.tenant_id > place
    ORDER BY q.tenant_id
    LIMIT 1;
    IF place IS NULL THEN
      EXIT WHEN has_wrapped;
      has_wrapped := true;
      place := '00000000-0000-0000-0000-000000000000';
      CONTINUE;
    END IF;
    EXIT WHEN has_wrapped AND place > beginning;
    SELECT EXISTS (
      SELECT FROM outbox_queue AS q
      WHERE q.effect_type = due_tenants.effect_type
        AND q.tenant_id = place
        AND q.due_at <= now()
    ) INTO is_due;
    IF is_due THEN
      found_tenants := found_tenants || place;
    END IF;
  END LOOP;
  RETURN found_tenants;
END
$$;

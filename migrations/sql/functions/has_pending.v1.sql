-- Whether anything is pending of these effect types, due or not, leased or not. What waits for a person does not count: dead letters, what stands behind
-- them, and what a restore holds back.
CREATE FUNCTION persistence.has_pending(effect_types text[]) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
  SELECT EXISTS (
    SELECT
    FROM outbox_queue AS q
    WHERE q.effect_type = ANY (effect_types)
      AND (q.held_by IS NULL OR q.held_by = 'CANCELLED')
  )
$$;

-- Looks at all that is queued of these effect types, which claims do not: sees where the work begins, so that claims need not look below
-- (dead rows pile up there while somebody keeps a transaction open), and finds leases that ran out and entries that were committed late. Removes
-- the marks of what has been quiet (nothing within five minutes), and notes that somebody handles these types. One worker at a time. Returns false when another is at it.
CREATE FUNCTION persistence.sweep_outbox(effect_types text[]) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
  soon CONSTANT interval := interval '5 minutes';
  mark outbox_marks;
  looked_at timestamptz;
  begins_at timestamptz;
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);  -- as in claim_outbox
  IF NOT pg_try_advisory_xact_lock(plane_lock('sweep_outbox')) THEN
    RETURN false;
  END IF;
  PERFORM make_streams(effect_types, soon);
  UPDATE outbox_streams AS s
  SET handled_at = now(), updated_at = now()
  WHERE s.effect_type = ANY (effect_types)
    AND coalesce(s.handled_at, '-infinity') < now() - interval '1 minute';
  DELETE FROM outbox_marks AS m
  WHERE m.effect_type = ANY (effect_types)
    AND EXISTS (
      SELECT
      FROM outbox_marks AS o
      WHERE o.tenant_id = m.tenant_id
        AND o.effect_type = m.effect_type
        AND o.id < m.id
    );
  FOR mark IN
    SELECT m.*
    FROM outbox_marks AS m
    WHERE m.effect_type = ANY (effect_types)
  LOOP
    looked_at := clock_timestamp();
    SELECT min(q.due_at)
    INTO begins_at
    FROM outbox_queue AS q
    WHERE q.effect_type = mark.effect_type
      AND q.tenant_id = mark.tenant_id
      AND q.due_at <= now()
      AND (q.leased_until IS NULL OR q.leased_until <= now());
    IF begins_at IS NULL AND mark.created_at < now() - interval '1 minute' AND NOT EXISTS (
      SELECT
      FROM outbox_queue AS q
      WHERE q.effect_type = mark.effect_type
        AND q.tenant_id = mark.tenant_id
        AND q.due_at < now() + soon
    ) THEN
      DELETE FROM outbox_marks AS m
      WHERE m.tenant_id = mark.tenant_id
        AND m.id = mark.id;
      CONTINUE;
    END IF;
    CONTINUE WHEN begins_at IS NULL AND clock_timestamp() - looked_at < interval '1 millisecond';
    -- What was requested a moment ago may be committed yet.
    begins_at := least(begins_at, now() - interval '250 milliseconds');
    IF begins_at < mark.swept_to OR begins_at > mark.swept_to + interval '1 second' THEN
      UPDATE outbox_marks AS m
      SET swept_to = begins_at, updated_at = now()
      WHERE m.tenant_id = mark.tenant_id
        AND m.id = mark.id;
    END IF;
  END LOOP;

  PERFORM end_cancelled();
  DELETE FROM outbox_destinations AS d
  WHERE d.updated_at < now() - interval '1 day';
  RETURN true;
END
$$;

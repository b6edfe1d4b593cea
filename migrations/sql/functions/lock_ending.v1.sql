-- Locks the runs and steps that are about to end, so that nothing begins in them meanwhile: whoever begins a part holds the row's key (the foreign
-- key's lock, and check_wholes), and this waits for them. Returns whether any run or step ends.
CREATE FUNCTION persistence.lock_ending(deltas persistence.aggregate_delta[]) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  d aggregate_delta;
  ends boolean := false;
BEGIN
  FOREACH d IN ARRAY deltas LOOP
    IF d.aggregate_type IN ('RUN', 'STEP') AND d.status IN ('COMPLETED', 'FAILED', 'CANCELLED', 'SKIPPED') THEN
      ends := true;
      IF d.first_version > 1 AND d.aggregate_type = 'RUN' THEN
        PERFORM FROM runs AS r WHERE r.tenant_id = d.tenant_id AND r.id = d.id FOR UPDATE;
      ELSIF d.first_version > 1 THEN
        PERFORM FROM steps AS s WHERE s.tenant_id = d.tenant_id AND s.id = d.id FOR UPDATE;
      END IF;
    END IF;
  END LOOP;
  RETURN ends;
END
$$;

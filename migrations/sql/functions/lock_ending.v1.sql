-- Locks the runs and steps that a batch is about to end, before it has its numbers in the log: whoever begins a part holds the row's key (the foreign
-- key's lock, and check_wholes). So what began first is seen, and what comes later is refused.
CREATE FUNCTION persistence.lock_ending(tenant_id uuid, events jsonb) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  ending record;
BEGIN
  FOR ending IN
    SELECT e.aggregate_type AS kind, e.aggregate_id AS id
    FROM jsonb_to_recordset(events) AS e (event_type text, aggregate_type text, aggregate_id uuid, aggregate_version integer)
    WHERE e.aggregate_type IN ('RUN', 'STEP')
    GROUP BY kind, id
    HAVING min(e.aggregate_version) > 1  -- nobody else can see what begins with the batch
      AND bool_or(e.event_type ~ '{ending_types}')
    ORDER BY kind, id
  LOOP
    IF ending.kind = 'RUN' THEN
      PERFORM FROM runs AS r WHERE r.tenant_id = lock_ending.tenant_id AND r.id = ending.id FOR UPDATE;
    ELSE
      PERFORM FROM steps AS s WHERE s.tenant_id = lock_ending.tenant_id AND s.id = ending.id FOR UPDATE;
    END IF;
    IF FOUND AND current_setting('transaction_isolation') <> 'read committed' AND NOT EXISTS (
      SELECT
      FROM orchestration_events AS e
      WHERE e.tenant_id = lock_ending.tenant_id
        AND e.aggregate_id = ending.id
        AND e.aggregate_version = 1
        AND e.transaction_id = pg_current_xact_id()
    ) THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE008',
        MESSAGE = format(
          'transaction_isolation: %s %s cannot end in a transaction that is %s', ending.kind, ending.id, current_setting('transaction_isolation')
        ),
        HINT = 'What began in it meanwhile would not be seen. Use plane.transaction instead of a snapshot, or READ COMMITTED.';
    END IF;
  END LOOP;
  RETURN true;
END
$$;

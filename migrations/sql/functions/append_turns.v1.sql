-- What an executor records of runs that it has under lease: events, as append_events takes them, and what becomes of each run, all or nothing.
--
-- turns: an array of objects with run_id, token (of the lease), outcome and, for WAIT, wakes and signals.
--   outcome: KEEP (the executor goes on with it), END (it ended), WAIT (it waits, and the executor lets go of it).
--   wakes: how many the executor has seen; where more have come the run is due at once. signals: what it waits for, objects with type and key; where
--     one of these is there already, it is due at once, too.
-- Errors: those of append_events, and PE016 where a lease is another's by now: then nothing of it is kept.
CREATE FUNCTION persistence.append_turns(tenant_id uuid, user_id uuid, events jsonb, turns jsonb, proof text DEFAULT NULL)
RETURNS TABLE (event_id uuid, sequence_number bigint, aggregate_id uuid, is_new boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
  turn record;
  wait record;
  q run_queue;
  is_repeated boolean := jsonb_array_length(events) > 0;  -- whether all of it is in the log already
  has_known boolean := false;  -- whether an effect was asked for before: nobody tells this run what comes of it
  is_woken boolean;
  done text;
BEGIN
  done := set_config('persistence.leases', turns::text, true);
  IF jsonb_array_length(events) > 0 THEN
    FOR event_id, sequence_number, aggregate_id, is_new IN
      SELECT a.* FROM append_events(append_turns.tenant_id, append_turns.user_id, events, proof) AS a
    LOOP
      is_repeated := is_repeated AND NOT is_new;
      has_known := has_known OR NOT is_new;
      RETURN NEXT;
    END LOOP;
  ELSE
    PERFORM enter_tenant(append_turns.tenant_id, append_turns.user_id, proof);
  END IF;
  done := set_config('persistence.leases', '', true);

  FOR turn IN
    SELECT t.*
    FROM jsonb_to_recordset(turns) AS t (run_id uuid, token uuid, outcome text, wakes integer, signals jsonb)
    ORDER BY t.run_id
  LOOP
    IF turn.outcome = 'WAIT' AND turn.signals IS NOT NULL THEN
      FOR wait IN
        SELECT s.type, s.key
        FROM jsonb_to_recordset(turn.signals) AS s (type text, key text)
        ORDER BY signal_lock(append_turns.tenant_id, s.type, s.key)
      LOOP
        PERFORM pg_advisory_xact_lock(signal_lock(append_turns.tenant_id, wait.type, wait.key));
      END LOOP;
    END IF;
    SELECT l.*
    INTO q
    FROM run_queue AS l
    WHERE l.tenant_id = append_turns.tenant_id
      AND l.id = turn.run_id
      AND l.lease_token = turn.token
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
      CONTINUE WHEN is_repeated;
      RAISE EXCEPTION USING
        ERRCODE = 'PE016',
        MESSAGE = format('run %s is another executor''s by now, or has ended', turn.run_id),
        HINT = 'Leave it: nothing of this was recorded.';
    END IF;
    CASE turn.outcome
      WHEN 'KEEP' THEN
        IF q.attempts > 1 THEN
          UPDATE run_queue AS l SET attempts = 1, updated_at = now() WHERE l.tenant_id = q.tenant_id AND l.id = q.id;
        END IF;
      WHEN 'END' THEN
        IF q.ordering_key IS NOT NULL THEN
          PERFORM lock_keys(ARRAY[q.tenant_id], ARRAY[q.ordering_key]);
        END IF;
        DELETE FROM run_queue AS l WHERE l.tenant_id = q.tenant_id AND l.id = q.id;
        IF q.ordering_key IS NOT NULL THEN
          PERFORM open_runs(ARRAY[q.tenant_id], ARRAY[q.ordering_key]);
        END IF;
      WHEN 'WAIT' THEN
        is_woken := has_known OR q.wakes > turn.wakes OR EXISTS (
          SELECT
          FROM jsonb_to_recordset(turn.signals) AS w (type text, key text)
          JOIN signals AS s
            ON s.tenant_id = append_turns.tenant_id
            AND s.signal_type = w.type
            AND s.signal_key = w.key
          WHERE s.status = 'RECEIVED'
        );
        IF is_woken OR q.ordering_key IS NOT NULL THEN
          UPDATE run_queue AS l
          SET
            due_at = CASE WHEN is_woken THEN now() ELSE 'infinity' END,
            held_by = CASE WHEN NOT is_woken THEN 'WAIT' END,
            leased_until = NULL, lease_token = NULL, leased_by = NULL, attempts = 0, updated_at = now()
          WHERE l.tenant_id = q.tenant_id
            AND l.id = q.id;
        ELSE
          DELETE FROM run_queue AS l WHERE l.tenant_id = q.tenant_id AND l.id = q.id;
        END IF;
    END CASE;
  END LOOP;
END
$$;

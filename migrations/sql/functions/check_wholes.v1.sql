-- Refuses a batch in which something begins, or goes on after a pause, while what it is a part of is not open any more (canon.part_of), or that is not
-- of its correlation, or of another run, or begins after it; and a use of memories that there are not. What was ended by this very batch counts as open up to the event that ended it; what
-- somebody else ended meanwhile is ended, whichever number its end has. Called after the fold.
-- A whole is looked up once as long as its parts stand together, and not at all where it has just begun in the batch.
CREATE FUNCTION persistence.check_wholes(batch persistence.orchestration_events[]) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  tenant CONSTANT uuid := batch[1].tenant_id;
  e orchestration_events;
  its record;
  its_owner uuid;  -- whose wholes its_run and its_step are
  its_run uuid;
  its_step uuid;
  may_reopen boolean := false;
  new_signal uuid;  -- of what begins in the batch, the last so far, if it has only begun
  new_signal_correlation uuid;
  new_run uuid;
  new_run_correlation uuid;
  new_step uuid;
  new_step_run uuid;
  open_run text;  -- the run that was looked up last, if it is open and was there before the batch
  run_id uuid;
  run_status text;
  run_correlation uuid;
  run_event uuid;
  run_ended bigint;
  run_begun bigint;
  step_id uuid;
  step_status text;
  step_run uuid;
  step_event uuid;
  step_ended bigint;
  step_begun bigint;
  signal_id uuid;
  signal_correlation uuid;
  signal_begun bigint;
  unknown_memory uuid;
BEGIN
  FOREACH e IN ARRAY batch LOOP
    CONTINUE WHEN e.event_data ->> 'run_id' = open_run
      AND e.correlation_id = run_correlation
      AND e.aggregate_type = 'EFFECT'
      AND e.aggregate_version = 1
      AND NOT e.event_data ? 'step_id';
    IF e.aggregate_version = 1 THEN
      CASE e.aggregate_type
        WHEN 'SIGNAL' THEN
          new_signal := e.aggregate_id;
          new_signal_correlation := e.correlation_id;
        WHEN 'RUN' THEN
          new_run := e.aggregate_id;
          new_run_correlation := e.correlation_id;
          its_owner := e.aggregate_id;
          its_run := (e.event_data ->> 'parent_run_id')::uuid;
          its_step := NULL;
        ELSE
          its_owner := e.aggregate_id;
          its_run := (e.event_data ->> 'run_id')::uuid;
          its_step := (e.event_data ->> 'step_id')::uuid;
          IF e.event_type IN ('STEP_SCHEDULED', 'STEP_STARTED', 'STEP_AWAITED') THEN
            new_step := e.aggregate_id;
            new_step_run := its_run;
          END IF;
      END CASE;
    ELSE
      IF e.aggregate_id = new_run THEN
        new_run := NULL;
      ELSIF e.aggregate_id = new_step THEN
        new_step := NULL;
      END IF;
      may_reopen := may_reopen OR e.event_type IN ('RUN_RETRIED', 'STEP_RETRIED', 'RUN_CANCELLED', 'STEP_CANCELLED');
    END IF;
    CONTINUE WHEN NOT (
{needs_wholes}
    );
    IF e.aggregate_id IS DISTINCT FROM its_owner THEN
      its := wholes_of(e);
      its_owner := e.aggregate_id;
      its_run := its.run_id;
      its_step := its.step_id;
    END IF;

    IF e.aggregate_type = 'MEMORY_RECALL' THEN
      SELECT r.memory_id::uuid INTO unknown_memory
      FROM jsonb_array_elements_text(e.event_data -> 'memories') AS r (memory_id)
      WHERE NOT EXISTS (SELECT FROM memories AS m WHERE m.tenant_id = tenant AND m.id = r.memory_id::uuid)
      LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION USING
          ERRCODE = 'PE003',
          MESSAGE = format('memories: there is no memory %s in this tenant', unknown_memory),
          HINT = 'Name those that a search found.';
      END IF;
    END IF;

    IF e.aggregate_type = 'RUN' AND e.aggregate_version = 1 AND e.event_data ? 'signal_id' THEN
      IF (e.event_data ->> 'signal_id')::uuid = new_signal THEN
        signal_id := new_signal;
        signal_correlation := new_signal_correlation;
        signal_begun := NULL;
      ELSIF (e.event_data ->> 'signal_id')::uuid IS DISTINCT FROM signal_id THEN
        signal_id := (e.event_data ->> 'signal_id')::uuid;
        SELECT s.correlation_id, CASE WHEN s.created_at = now() THEN begun_at(tenant, s.id) END
        INTO signal_correlation, signal_begun
        FROM signals AS s
        WHERE s.tenant_id = tenant
          AND s.id = signal_id;
      END IF;
      IF signal_correlation <> e.correlation_id THEN
        PERFORM refuse_part(e, 'SIGNAL', signal_id, NULL, signal_correlation);
      ELSIF signal_begun > e.sequence_number THEN
        PERFORM refuse_early_part(e, 'SIGNAL', signal_id);
      END IF;
    END IF;

    IF its_run = e.aggregate_id THEN
      PERFORM refuse_early_part(e, 'RUN', its_run);
    ELSIF its_run = new_run THEN
      IF new_run_correlation <> e.correlation_id THEN
        PERFORM refuse_part(e, 'RUN', its_run, NULL, new_run_correlation);
      END IF;
    ELSIF its_run IS NOT NULL THEN
      IF its_run IS DISTINCT FROM run_id THEN
        run_id := its_run;
        SELECT r.status, r.correlation_id, r.last_event_id, CASE WHEN r.created_at = now() THEN begun_at(tenant, r.id) END
        INTO run_status, run_correlation, run_event, run_begun
        FROM runs AS r
        WHERE r.tenant_id = tenant
          AND r.id = run_id
        FOR KEY SHARE;
        run_ended := NULL;
        IF run_status NOT IN ('PENDING', 'RUNNING', 'WAITING') THEN
          run_ended := coalesce((SELECT x.sequence_number FROM unnest(batch) AS x WHERE x.id = run_event), 0);
        END IF;
        open_run := CASE WHEN run_ended IS NULL AND run_begun IS NULL THEN run_id::text END;
      END IF;
      IF run_begun > e.sequence_number THEN
        PERFORM refuse_early_part(e, 'RUN', run_id);
      ELSIF run_correlation <> e.correlation_id OR run_ended < e.sequence_number THEN
        PERFORM refuse_part(e, 'RUN', run_id, run_status, run_correlation);
      END IF;
    END IF;

    IF its_step = new_step AND new_step_run = its_run THEN
      NULL;  -- it has just begun
    ELSIF its_step IS NOT NULL THEN
      IF its_step IS DISTINCT FROM step_id THEN
        step_id := its_step;
        SELECT s.status, s.run_id, s.last_event_id, CASE WHEN s.created_at = now() THEN begun_at(tenant, s.id) END
        INTO step_status, step_run, step_event, step_begun
        FROM steps AS s
        WHERE s.tenant_id = tenant
          AND s.id = step_id
        FOR KEY SHARE;
        step_ended := NULL;
        IF step_status NOT IN ('PENDING', 'RUNNING', 'WAITING') THEN
          step_ended := coalesce((SELECT x.sequence_number FROM unnest(batch) AS x WHERE x.id = step_event), 0);
        END IF;
      END IF;
      IF step_begun > e.sequence_number THEN
        PERFORM refuse_early_part(e, 'STEP', step_id);
      ELSIF step_run <> its_run THEN
        RAISE EXCEPTION USING
          ERRCODE = 'PE008',
          MESSAGE = format('run_id: %s %s is of run %s, its step %s of run %s', e.aggregate_type, e.aggregate_id, its_run, step_id, step_run),
          HINT = 'Name the run of the step.';
      ELSIF step_ended < e.sequence_number AND NOT EXISTS (
        SELECT
        FROM canon.part_of AS p
        WHERE p.aggregate_type = e.aggregate_type
          AND p.column_name = 'step_id'
          AND step_status = ANY (p.statuses)
      ) THEN
        PERFORM refuse_part(e, 'STEP', step_id, step_status, e.correlation_id);
      END IF;
    END IF;
  END LOOP;
  IF may_reopen AND cardinality(batch) > 1 THEN
    PERFORM refuse_parts_between(batch);
  END IF;
  RETURN true;
END
$$;

-- Refuses a batch in which something begins, or goes on after a pause, while what it is a part of is not open any more (canon.part_of), or that is not
-- of its correlation, or of another run. Called after the fold: what was ended by this very batch counts as open up to the event that ended it; what
-- somebody else ended meanwhile is ended, whichever number its end has.
-- Each whole is looked up once as long as its parts stand together.
CREATE FUNCTION persistence.check_wholes(batch persistence.orchestration_events[]) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  tenant CONSTANT uuid := batch[1].tenant_id;
  e orchestration_events;
  its_run uuid;
  its_step uuid;
  run_id uuid;
  run_status text;
  run_correlation uuid;
  run_event uuid;
  run_ended bigint;
  run_is_of_batch boolean;
  step_id uuid;
  step_status text;
  step_run uuid;
  step_event uuid;
  step_ended bigint;
  signal_id uuid;
  signal_correlation uuid;
BEGIN
  FOREACH e IN ARRAY batch LOOP
    its_run := NULL;
    its_step := NULL;
    IF e.aggregate_version = 1 THEN
      CONTINUE WHEN e.aggregate_type = 'SIGNAL';
      IF e.aggregate_type = 'RUN' THEN
        its_run := (e.event_data ->> 'parent_run_id')::uuid;
        IF e.event_data ? 'signal_id' THEN
          IF (e.event_data ->> 'signal_id')::uuid IS DISTINCT FROM signal_id THEN
            signal_id := (e.event_data ->> 'signal_id')::uuid;
            SELECT s.correlation_id INTO signal_correlation FROM signals AS s WHERE s.tenant_id = tenant AND s.id = signal_id;
          END IF;
          IF signal_correlation <> e.correlation_id THEN
            PERFORM refuse_part(e, 'SIGNAL', signal_id, NULL, signal_correlation);
          END IF;
        END IF;
      ELSE
        its_run := (e.event_data ->> 'run_id')::uuid;
        its_step := (e.event_data ->> 'step_id')::uuid;
      END IF;
    ELSIF e.event_type IN ('STEP_STARTED', 'STEP_RESUMED', 'STEP_RETRIED') THEN
      SELECT s.run_id INTO its_run FROM steps AS s WHERE s.tenant_id = tenant AND s.id = e.aggregate_id;
    ELSIF e.event_type = 'TOOL_CALL_STARTED' THEN
      SELECT c.run_id, c.step_id INTO its_run, its_step FROM tool_calls AS c WHERE c.tenant_id = tenant AND c.id = e.aggregate_id;
    ELSIF e.event_type IN ('RUN_STARTED', 'RUN_RESUMED', 'RUN_RETRIED') THEN
      SELECT r.parent_run_id INTO its_run FROM runs AS r WHERE r.tenant_id = tenant AND r.id = e.aggregate_id;
    END IF;

    IF its_run IS NOT NULL THEN
      IF its_run IS DISTINCT FROM run_id THEN
        run_id := its_run;
        SELECT r.status, r.correlation_id, r.last_event_id, r.xmin = pg_current_xact_id()::xid
        INTO run_status, run_correlation, run_event, run_is_of_batch
        FROM runs AS r
        WHERE r.tenant_id = tenant
          AND r.id = run_id
        FOR KEY SHARE;
        run_ended := NULL;
        IF run_status NOT IN ('PENDING', 'RUNNING', 'WAITING') THEN
          run_ended := coalesce((SELECT x.sequence_number FROM unnest(batch) AS x WHERE x.id = run_event), 0);
        END IF;
      END IF;
      IF run_correlation <> e.correlation_id OR run_ended < e.sequence_number THEN
        PERFORM refuse_part(e, 'RUN', run_id, run_status, run_correlation);
      END IF;
      IF run_is_of_batch AND e.aggregate_type = 'RUN' AND EXISTS (
        SELECT
        FROM unnest(batch) AS x
        WHERE x.aggregate_id = run_id
          AND x.aggregate_version = 1
          AND x.sequence_number >= e.sequence_number
      ) THEN
        RAISE EXCEPTION USING
          ERRCODE = 'PE008',
          MESSAGE = format('parent_run_id: RUN %s is named as the parent of %s and begins after it, or is the same', run_id, e.aggregate_id),
          HINT = 'Put the parent before its children in the batch.';
      END IF;
    END IF;
    IF its_step IS NOT NULL THEN
      IF its_step IS DISTINCT FROM step_id THEN
        step_id := its_step;
        SELECT s.status, s.run_id, s.last_event_id
        INTO step_status, step_run, step_event
        FROM steps AS s
        WHERE s.tenant_id = tenant
          AND s.id = step_id
        FOR KEY SHARE;
        step_ended := NULL;
        IF step_status NOT IN ('PENDING', 'RUNNING', 'WAITING') THEN
          step_ended := coalesce((SELECT x.sequence_number FROM unnest(batch) AS x WHERE x.id = step_event), 0);
        END IF;
      END IF;
      IF step_run <> its_run THEN
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
  RETURN true;
END
$$;

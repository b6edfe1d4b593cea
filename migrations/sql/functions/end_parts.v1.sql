-- What becomes of the parts of runs and steps that end: cancelled with what is given up, or where their caller says so; otherwise a run or step with
-- open parts cannot end well, and the batch is refused.
CREATE FUNCTION persistence.end_parts(batch persistence.orchestration_events[], deltas persistence.aggregate_delta[]) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  d aggregate_delta;
  cancels boolean := false;
  begins_and_ends boolean := false;
  run_ids uuid[];
  step_ids uuid[];
  kind text;
  part uuid;
  status text;
BEGIN
  FOREACH d IN ARRAY deltas LOOP
    IF d.aggregate_type IN ('RUN', 'STEP') AND (d.status IN ('CANCELLED', 'SKIPPED') OR d.doc ? 'open_parts') THEN
      cancels := true;
    END IF;
  END LOOP;
  IF cancels THEN
    cancels := cancel_parts(batch);
  END IF;

  FOREACH d IN ARRAY deltas LOOP
    IF d.status = 'COMPLETED' AND d.aggregate_type IN ('RUN', 'STEP') THEN
      IF d.first_version = 1 AND NOT cancels THEN
        begins_and_ends := true;
      ELSIF d.aggregate_type = 'RUN' THEN
        run_ids := run_ids || d.id;
      ELSE
        step_ids := step_ids || d.id;
      END IF;
    END IF;
  END LOOP;
  IF run_ids IS NOT NULL OR step_ids IS NOT NULL THEN
    SELECT w.kind, w.id, w.part_kind, w.part, w.status
    INTO d.aggregate_type, d.id, kind, part, status
    FROM open_parts(batch[1].tenant_id, run_ids, step_ids) AS w
    LIMIT 1;
  END IF;
  IF part IS NULL AND begins_and_ends THEN
    -- Of what begins and ends with the batch all parts are in it, and none has been cancelled. (There may be several deltas of an aggregate.)
    SELECT w.aggregate_type, w.id, o.aggregate_type, o.id, l.status
    INTO d.aggregate_type, d.id, kind, part, status
    FROM unnest(deltas) AS o
    CROSS JOIN LATERAL (
      SELECT l.status
      FROM unnest(deltas) AS l
      WHERE l.id = o.id
      ORDER BY l.version DESC
      LIMIT 1
    ) AS l
    JOIN unnest(deltas) AS w
      ON w.id IN ((o.doc ->> 'run_id')::uuid, (o.doc ->> 'step_id')::uuid, (o.doc ->> 'parent_run_id')::uuid)
    WHERE o.aggregate_type IN ('RUN', 'STEP', 'TOOL_CALL')
      AND o.first_version = 1
      AND l.status IN ('PENDING', 'RUNNING', 'WAITING')
      AND w.status = 'COMPLETED'
      AND NOT w.doc ? 'open_parts'
    LIMIT 1;
  END IF;
  IF part IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE002',
      MESSAGE = format('%s %s cannot complete: its %s %s is %s', d.aggregate_type, d.id, kind, part, status),
      HINT = 'End its parts first, or say what becomes of them: complete(…, open_parts="cancel").';
  END IF;
  RETURN true;
END
$$;

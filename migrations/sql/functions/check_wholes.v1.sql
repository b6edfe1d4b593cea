-- Refuses a batch in which something begins, or goes on after a pause, while what it is a part of is not open any more (canon.part_of), or that is not
-- of its correlation, or of another run. Called after the fold: what was ended by the same batch counts as open up to the event that ended it.
CREATE FUNCTION persistence.check_wholes(batch persistence.orchestration_events[]) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  tenant CONSTANT uuid := batch[1].tenant_id;
  bad record;
BEGIN
  SELECT p.*, w.status, w.correlation_id AS whole_correlation, w.run_id AS whole_run
  INTO bad
  FROM (
    SELECT
      g.whole_type, g.whole_id, g.statuses, g.correlation_id, g.run_id, g.column_name, g.aggregate_type,
      max(g.sequence_number) AS sequence_number, (array_agg(g.aggregate_id ORDER BY g.sequence_number DESC))[1] AS aggregate_id
    FROM (
      SELECT
        e.aggregate_type, e.aggregate_id, e.correlation_id, e.sequence_number, o.whole_type, o.statuses, o.column_name,
        CASE
          WHEN e.aggregate_version = 1 THEN (e.event_data ->> o.column_name)::uuid
          WHEN e.aggregate_type = 'STEP' THEN (
            SELECT s.run_id FROM steps AS s WHERE s.tenant_id = tenant AND s.id = e.aggregate_id
          )
          WHEN e.aggregate_type = 'RUN' AND o.column_name = 'parent_run_id' THEN (
            SELECT r.parent_run_id FROM runs AS r WHERE r.tenant_id = tenant AND r.id = e.aggregate_id
          )
          WHEN e.aggregate_type = 'TOOL_CALL' THEN (
            SELECT CASE o.column_name WHEN 'run_id' THEN c.run_id ELSE c.step_id END
            FROM tool_calls AS c
            WHERE c.tenant_id = tenant AND c.id = e.aggregate_id
          )
        END AS whole_id,
        CASE WHEN o.whole_type = 'STEP' THEN (e.event_data ->> 'run_id')::uuid END AS run_id
      FROM unnest(batch) AS e
      JOIN canon.event_types AS t USING (event_type, event_version)
      JOIN canon.part_of AS o ON o.aggregate_type = e.aggregate_type
      WHERE t.needs_whole
    ) AS g
    WHERE g.whole_id IS NOT NULL
    GROUP BY g.whole_type, g.whole_id, g.statuses, g.correlation_id, g.run_id, g.column_name, g.aggregate_type
  ) AS p
  LEFT JOIN LATERAL (
    SELECT r.status, r.correlation_id, r.last_event_id
    FROM runs AS r
    WHERE p.whole_type = 'RUN' AND r.tenant_id = tenant AND r.id = p.whole_id
    FOR KEY SHARE
  ) AS r ON true
  LEFT JOIN LATERAL (
    SELECT s.status, s.correlation_id, s.last_event_id, s.run_id
    FROM steps AS s
    WHERE p.whole_type = 'STEP' AND s.tenant_id = tenant AND s.id = p.whole_id
    FOR KEY SHARE
  ) AS s ON true
  LEFT JOIN LATERAL (
    SELECT g.status, g.correlation_id
    FROM signals AS g
    WHERE p.whole_type = 'SIGNAL' AND g.tenant_id = tenant AND g.id = p.whole_id
  ) AS g ON true
  CROSS JOIN LATERAL (
    SELECT
      coalesce(r.status, s.status, g.status) AS status, coalesce(r.correlation_id, s.correlation_id, g.correlation_id) AS correlation_id,
      coalesce(r.last_event_id, s.last_event_id) AS last_event_id, s.run_id
  ) AS w
  WHERE p.correlation_id <> w.correlation_id
    OR p.run_id <> w.run_id
    OR (
      w.status <> ALL (p.statuses)
      AND (
        SELECT e.sequence_number FROM orchestration_events AS e WHERE e.tenant_id = tenant AND e.id = w.last_event_id
      ) < p.sequence_number
    )
  LIMIT 1;
  IF NOT FOUND THEN
    RETURN true;
  END IF;

  IF bad.correlation_id <> bad.whole_correlation THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format(
        'correlation_id: %s %s has %s, its %s %s has %s', bad.aggregate_type, bad.aggregate_id, bad.correlation_id, bad.whole_type,
        bad.whole_id, bad.whole_correlation
      ),
      HINT = 'What belongs together has one correlation.';
  ELSIF bad.run_id <> bad.whole_run THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format(
        'run_id: %s %s is of run %s, its step %s of run %s', bad.aggregate_type, bad.aggregate_id, bad.run_id, bad.whole_id, bad.whole_run
      ),
      HINT = 'Name the run of the step.';
  END IF;
  RAISE EXCEPTION USING
    ERRCODE = 'PE002',
    MESSAGE = format(
      '%s %s cannot begin or go on: its %s %s is %s', bad.aggregate_type, bad.aggregate_id, bad.whole_type, bad.whole_id, bad.status
    ),
    HINT = format('That is possible while it is %s.', array_to_string(bad.statuses, ', '));
END
$$;

-- Refuses a batch in which something begins, or goes on, between the failure of its run or step and what followed on that: check_wholes sees how a whole
-- is in the end.
CREATE FUNCTION persistence.refuse_parts_between(batch persistence.orchestration_events[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
  pause record;
  e orchestration_events;
  its record;
BEGIN
  FOR pause IN
    SELECT x.aggregate_type AS kind, x.aggregate_id AS id, x.correlation_id, f.sequence_number AS begins, x.sequence_number AS ends
    FROM unnest(batch) AS x
    JOIN orchestration_events AS f
      ON f.tenant_id = x.tenant_id
      AND f.aggregate_id = x.aggregate_id
      AND f.aggregate_version = x.aggregate_version - 1
    WHERE x.event_type IN ('RUN_RETRIED', 'STEP_RETRIED', 'RUN_CANCELLED', 'STEP_CANCELLED')
      AND f.event_type IN ('RUN_FAILED', 'STEP_FAILED')
  LOOP
    FOREACH e IN ARRAY batch LOOP
      CONTINUE WHEN e.sequence_number < pause.begins;
      EXIT WHEN e.sequence_number > pause.ends;
      CONTINUE WHEN NOT (
{needs_wholes}
      );
      its := wholes_of(e);
      IF its.run_id = pause.id OR (its.step_id = pause.id AND e.aggregate_type = 'TOOL_CALL') THEN
        PERFORM refuse_part(e, pause.kind, pause.id, 'FAILED', pause.correlation_id);
      END IF;
    END LOOP;
  END LOOP;
END
$$;

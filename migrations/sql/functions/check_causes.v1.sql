-- Refuses a batch with an event whose cause is not in the tenant's log, comes after it, or belongs to another correlation. (CANON-TRACE-001 §2.2, §4.2)
CREATE FUNCTION persistence.check_causes(batch persistence.orchestration_events[]) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  tenant CONSTANT uuid := batch[1].tenant_id;
  e orchestration_events;
  previous orchestration_events;
  is_chain boolean := true;
  cause uuid;
  correlation uuid;
  its_correlation uuid;
  its_number bigint;
BEGIN
  FOREACH e IN ARRAY batch LOOP
    IF e.causation_id IS NOT NULL AND (e.causation_id = previous.id AND e.correlation_id = previous.correlation_id) IS NOT TRUE THEN
      is_chain := false;
      EXIT;
    END IF;
    previous := e;
  END LOOP;
  IF is_chain THEN  -- each was caused by the one before it
    RETURN true;
  END IF;

  SELECT g.causation_id, g.correlation_id, c.correlation_id, c.sequence_number
  INTO cause, correlation, its_correlation, its_number
  FROM (
    SELECT b.causation_id, b.correlation_id, min(b.sequence_number) AS sequence_number
    FROM unnest(batch) AS b
    WHERE b.causation_id IS NOT NULL
    GROUP BY b.causation_id, b.correlation_id
  ) AS g
  LEFT JOIN LATERAL (
    SELECT c.correlation_id, c.sequence_number
    FROM orchestration_events AS c
    WHERE c.tenant_id = tenant
      AND c.id = g.causation_id
    LIMIT 1
  ) AS c ON true
  WHERE (c.correlation_id = g.correlation_id AND c.sequence_number < g.sequence_number) IS NOT TRUE
  LIMIT 1;

  IF correlation IS NULL THEN
    RETURN true;
  ELSIF its_number IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('causation_id: the cause %s is not in this tenant''s log', cause),
      HINT = 'Name an event of the same tenant that is in the log, or earlier in the same batch.';
  ELSIF its_correlation <> correlation THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('causation_id: the cause %s belongs to correlation %s, what it caused to %s', cause, its_correlation, correlation),
      HINT = 'Cause and consequence share their correlation: receive a signal that is to move a run with the run''s correlation_id.';
  END IF;
  RAISE EXCEPTION USING
    ERRCODE = 'PE008',
    MESSAGE = format('causation_id: the cause %s comes after what it caused', cause),
    HINT = 'Put the cause before it in the batch.';
END
$$;

-- Refuses a batch with an event whose cause is not in the tenant's log, comes after it, or belongs to another correlation. (CANON-TRACE-001 §2.2, §4.2)
-- Most are caused by the event before them, or by what caused that; only other causes are looked up.
CREATE FUNCTION persistence.check_causes(batch persistence.orchestration_events[]) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  e orchestration_events;
  previous_id uuid;
  previous_correlation uuid;
  cause uuid;
  its_correlation uuid;
  its_number bigint;
BEGIN
  FOREACH e IN ARRAY batch LOOP
    IF e.causation_id IS NULL OR (e.causation_id = previous_id AND e.correlation_id = previous_correlation) THEN
      NULL;
    ELSIF e.causation_id IS DISTINCT FROM cause OR e.correlation_id <> its_correlation THEN
      cause := e.causation_id;
      SELECT c.correlation_id, c.sequence_number
      INTO its_correlation, its_number
      FROM orchestration_events AS c
      WHERE c.tenant_id = e.tenant_id
        AND c.id = cause;
      IF its_number IS NULL THEN
        RAISE EXCEPTION USING
          ERRCODE = 'PE008',
          MESSAGE = format('causation_id: the cause %s is not in this tenant''s log', cause),
          HINT = 'Name an event of the same tenant that is in the log, or earlier in the same batch.';
      ELSIF its_correlation <> e.correlation_id THEN
        RAISE EXCEPTION USING
          ERRCODE = 'PE008',
          MESSAGE = format('causation_id: the cause %s belongs to correlation %s, what it caused to %s', cause, its_correlation, e.correlation_id),
          HINT = 'Cause and consequence share their correlation: receive a signal that is to move a run with the run''s correlation_id.';
      ELSIF its_number >= e.sequence_number THEN
        RAISE EXCEPTION USING
          ERRCODE = 'PE008',
          MESSAGE = format('causation_id: the cause %s comes after what it caused', cause),
          HINT = 'Put the cause before it in the batch.';
      END IF;
    END IF;
    previous_id := e.id;
    previous_correlation := e.correlation_id;
  END LOOP;
  RETURN true;
END
$$;

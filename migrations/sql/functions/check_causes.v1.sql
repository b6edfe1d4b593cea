-- Refuses a batch with an event whose cause is not in the tenant's log, comes after it, or belongs to another correlation. (CANON-TRACE-001 §2.2, §4.2)
-- Of a small batch a cause is looked up unless it is the event before, or the one that was looked up last; of a large one all go together.
CREATE FUNCTION persistence.check_causes(batch persistence.orchestration_events[]) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  tenant CONSTANT uuid := batch[1].tenant_id;
  e orchestration_events;
  previous_id uuid;
  previous_correlation uuid;
  cause uuid;
  correlation uuid;
  its_correlation uuid;
  its_number bigint;
BEGIN
  IF cardinality(batch) <= 16 THEN
    FOREACH e IN ARRAY batch LOOP
      IF e.causation_id <> previous_id OR e.correlation_id <> previous_correlation OR previous_id IS NULL THEN
        IF e.causation_id IS DISTINCT FROM cause THEN
          cause := e.causation_id;
          SELECT c.correlation_id, c.sequence_number
          INTO its_correlation, its_number
          FROM orchestration_events AS c
          WHERE c.tenant_id = tenant
            AND c.id = cause;
        END IF;
        IF cause IS NOT NULL AND (its_correlation = e.correlation_id AND its_number < e.sequence_number) IS NOT TRUE THEN
          correlation := e.correlation_id;
          EXIT;
        END IF;
      END IF;
      previous_id := e.id;
      previous_correlation := e.correlation_id;
    END LOOP;
  ELSE
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
  END IF;

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

-- Refuses a batch with an event whose cause is not in the tenant's log, comes after it, or belongs to another correlation. (CANON-TRACE-001 §2.2, §4.2)
CREATE FUNCTION persistence.check_causes(batch persistence.orchestration_events[]) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  tenant CONSTANT uuid := batch[1].tenant_id;
  cause uuid;
  correlation uuid;
  before bigint;
  found_correlation uuid;
  found_number bigint;
BEGIN
  IF cardinality(batch) = 1 THEN
    cause := batch[1].causation_id;
    IF cause IS NULL THEN
      RETURN true;
    END IF;
    correlation := batch[1].correlation_id;
    before := batch[1].sequence_number;
    SELECT c.correlation_id, c.sequence_number
    INTO found_correlation, found_number
    FROM orchestration_events AS c
    WHERE c.tenant_id = tenant
      AND c.id = cause;
    IF found_correlation = correlation AND found_number < before THEN
      RETURN true;
    END IF;
  ELSE
    SELECT e.causation_id, e.correlation_id, c.correlation_id, c.sequence_number
    INTO cause, correlation, found_correlation, found_number
    FROM (
      SELECT b.causation_id, b.correlation_id, min(b.sequence_number) AS sequence_number
      FROM unnest(batch) AS b
      WHERE b.causation_id IS NOT NULL
      GROUP BY b.causation_id, b.correlation_id
    ) AS e
    LEFT JOIN LATERAL (
      SELECT c.correlation_id, c.sequence_number
      FROM orchestration_events AS c
      WHERE c.tenant_id = tenant
        AND c.id = e.causation_id
      LIMIT 1
    ) AS c ON true
    WHERE (c.correlation_id = e.correlation_id AND c.sequence_number < e.sequence_number) IS NOT TRUE
    LIMIT 1;
    IF NOT FOUND THEN
      RETURN true;
    END IF;
  END IF;

  IF found_number IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('causation_id: the cause %s is not in this tenant''s log', cause),
      HINT = 'Name an event of the same tenant that is in the log, or earlier in the same batch.';
  ELSIF found_correlation <> correlation THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format(
        'causation_id: the cause %s belongs to correlation %s, what it caused to %s', cause, found_correlation, correlation
      ),
      HINT = 'Cause and consequence share their correlation: receive a signal that is to move a run with the run''s correlation_id.';
  END IF;
  RAISE EXCEPTION USING
    ERRCODE = 'PE008',
    MESSAGE = format('causation_id: the cause %s comes after what it caused', cause),
    HINT = 'Put the cause before it in the batch.';
END
$$;

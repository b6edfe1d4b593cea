-- Says why a delta does not fit the row it should change, and refuses the batch.
CREATE FUNCTION persistence.refuse_deltas(kind text, deltas persistence.aggregate_delta[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
  holder text;
  bad record;
BEGIN
  SELECT a.table_name INTO holder FROM canon.aggregates AS a WHERE a.aggregate_type = kind;
  EXECUTE format(
    $query$
      SELECT d.id, d.first_version, d.first_event_type, d.correlation_id, s.status, s.version, s.correlation_id AS its_correlation
      FROM unnest($1) AS d
      LEFT JOIN %I AS s ON s.tenant_id = d.tenant_id AND s.id = d.id
      WHERE d.aggregate_type = $2
        AND d.first_version > 1
        AND s.last_event_id IS DISTINCT FROM d.last_event_id
      LIMIT 1
    $query$,
    holder
  ) INTO bad USING deltas, kind;

  IF bad.id IS NULL THEN  -- all go on as they should, but for a record in the outbox
    RAISE EXCEPTION USING
      ERRCODE = 'PE003',
      MESSAGE = 'an effect of the batch has no record in the outbox',
      HINT = 'Somebody has removed it: see what persistence fit says.';
  ELSIF bad.status IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE003',
      MESSAGE = format('%s %s does not exist in this tenant', kind, bad.id),
      HINT = 'Check the id and the tenant; a first event must have version 1.';
  ELSIF bad.version <> bad.first_version - 1 THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE001',
      MESSAGE = format(
        '%s %s is at version %s; %s expected version %s', kind, bad.id, bad.version, bad.first_event_type, bad.first_version - 1
      ),
      HINT = 'Someone else changed it. Read it again and decide anew.';
  ELSIF bad.correlation_id <> bad.its_correlation THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format(
        'correlation_id: %s %s has %s, its event %s has %s', kind, bad.id, bad.its_correlation, bad.first_event_type, bad.correlation_id
      ),
      HINT = 'The events of one life share its correlation.';
  ELSIF kind IN ('RUN', 'STEP') AND EXISTS (
    SELECT
    FROM canon.state_transitions AS t
    WHERE t.aggregate_type = kind
      AND t.event_type = bad.first_event_type
      AND t.from_status = bad.status
  ) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE002',
      MESSAGE = format('%s %s is of a flow: %s is for the executor that has it under lease', kind, bad.id, bad.first_event_type),
      HINT = 'Others start, signal, cancel and retry runs of flows.';
  END IF;
  RAISE EXCEPTION USING
    ERRCODE = 'PE002',
    MESSAGE = format('%s %s: %s is not allowed in status %s', kind, bad.id, bad.first_event_type, bad.status),
    HINT = 'canon.state_transitions lists what is allowed.';
END
$$;

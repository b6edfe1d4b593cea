-- Says which event of a batch may not follow the one before it, and refuses the batch.
CREATE FUNCTION persistence.refuse_chain(batch persistence.orchestration_events[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
  bad record;
BEGIN
  SELECT c.*
  INTO bad
  FROM (
    SELECT
      e.*,
      t.from_statuses,
      lag(e.aggregate_version) OVER life AS previous_version,
      lag(t.to_status) OVER life AS previous_status,
      lag(e.correlation_id) OVER life AS previous_correlation,
      lag(e.sequence_number) OVER life AS previous_number
    FROM unnest(batch) AS e
    JOIN canon.event_types AS t USING (event_type, event_version)
    WINDOW life AS (PARTITION BY e.tenant_id, e.aggregate_type, e.aggregate_id ORDER BY e.aggregate_version)
  ) AS c
  WHERE c.previous_version IS NOT NULL
    AND (
      c.aggregate_version <> c.previous_version + 1
      OR c.sequence_number < c.previous_number
      OR c.correlation_id <> c.previous_correlation
      OR c.previous_status <> ALL (c.from_statuses)
    )
  ORDER BY c.sequence_number
  LIMIT 1;

  IF bad.aggregate_version <> bad.previous_version + 1 THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE001',
      MESSAGE = format(
        '%s %s: version %s cannot follow version %s', bad.aggregate_type, bad.aggregate_id, bad.aggregate_version, bad.previous_version
      ),
      HINT = 'Number the events of one aggregate without gaps.';
  ELSIF bad.sequence_number < bad.previous_number THEN
    PERFORM refuse_late_version(bad.aggregate_type, bad.aggregate_id, bad.aggregate_version, bad.previous_version);
  ELSIF bad.correlation_id <> bad.previous_correlation THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format(
        'correlation_id: %s %s has %s, its event %s has %s', bad.aggregate_type, bad.aggregate_id, bad.previous_correlation, bad.event_type,
        bad.correlation_id
      ),
      HINT = 'The events of one life share its correlation.';
  END IF;
  RAISE EXCEPTION USING
    ERRCODE = 'PE002',
    MESSAGE = format('%s %s: %s is not allowed in status %s', bad.aggregate_type, bad.aggregate_id, bad.event_type, bad.previous_status),
    HINT = 'canon.state_transitions lists what is allowed.';
END
$$;

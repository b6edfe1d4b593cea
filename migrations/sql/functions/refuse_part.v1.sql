-- Says why something cannot be a part of what it names, and refuses the batch.
CREATE FUNCTION persistence.refuse_part(
  event persistence.orchestration_events, whole_type text, whole_id uuid, status text, correlation_id uuid
) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
  IF refuse_part.correlation_id <> event.correlation_id THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format(
        'correlation_id: %s %s has %s, its %s %s has %s', event.aggregate_type, event.aggregate_id, event.correlation_id, whole_type, whole_id,
        refuse_part.correlation_id
      ),
      HINT = 'What belongs together has one correlation.';
  END IF;
  RAISE EXCEPTION USING
    ERRCODE = 'PE002',
    MESSAGE = format('%s %s cannot begin or go on: its %s %s is %s', event.aggregate_type, event.aggregate_id, whole_type, whole_id, status),
    HINT = format(
      'That is possible while it is %s.',
      (
        SELECT string_agg(DISTINCT s.status, ', ')
        FROM canon.part_of AS p
        CROSS JOIN unnest(p.statuses) AS s (status)
        WHERE p.aggregate_type = event.aggregate_type
          AND p.whole_type = refuse_part.whole_type
      )
    );
END
$$;

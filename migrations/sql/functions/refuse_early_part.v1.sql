-- Refuses what begins before what it is a part of, or is a part of itself.
CREATE FUNCTION persistence.refuse_early_part(event persistence.orchestration_events, whole_type text, whole_id uuid) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'PE008',
    MESSAGE = format(
      '%s: %s %s begins after its part %s %s, or is the same',
      CASE WHEN event.aggregate_type = whole_type THEN 'parent_run_id' ELSE lower(whole_type) || '_id' END,
      whole_type, whole_id, event.aggregate_type, event.aggregate_id
    ),
    HINT = 'Put what something is a part of before it in the batch.';
END
$$;

-- Locks the runs and steps that a batch is about to end, before it has its numbers in the log: whoever begins a part holds the row's key (the foreign
-- key's lock, and check_wholes). So what began first is seen, and what comes later is refused.
CREATE FUNCTION persistence.lock_ending(tenant_id uuid, events jsonb) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  run_ids CONSTANT uuid[] := translate(jsonb_path_query_array(
    events, '$[*] ? (@.aggregate_type == "RUN" && @.event_type like_regex "{ending_types}").aggregate_id'
  )::text, '[]{}"', '{}');
  step_ids CONSTANT uuid[] := translate(jsonb_path_query_array(
    events, '$[*] ? (@.aggregate_type == "STEP" && @.event_type like_regex "{ending_types}").aggregate_id'
  )::text, '[]{}"', '{}');
  -- nobody else can see what begins with the batch
  begun_ids CONSTANT uuid[] := translate(jsonb_path_query_array(
    events, '$[*] ? ((@.aggregate_type == "RUN" || @.aggregate_type == "STEP") && @.aggregate_version == 1).aggregate_id'
  )::text, '[]{}"', '{}');
BEGIN
  IF NOT run_ids <@ begun_ids THEN
    PERFORM FROM runs AS r WHERE r.tenant_id = lock_ending.tenant_id AND r.id = ANY (run_ids) ORDER BY r.id FOR UPDATE;
  END IF;
  IF NOT step_ids <@ begun_ids THEN
    PERFORM FROM steps AS s WHERE s.tenant_id = lock_ending.tenant_id AND s.id = ANY (step_ids) ORDER BY s.id FOR UPDATE;
  END IF;
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    PERFORM refuse_end_in_snapshot(lock_ending.tenant_id, 'RUN', run_ids);
    PERFORM refuse_end_in_snapshot(lock_ending.tenant_id, 'STEP', step_ids);
  END IF;
  RETURN true;
END
$$;

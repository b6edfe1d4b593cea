-- Tells the planner how large the tables are by now. While they are empty one index costs what another does, and connections keep the plans
-- they made then; autovacuum would say so too, but up to a minute later.
CREATE FUNCTION persistence.learn_sizes() RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
  -- Whoever is at it holds the tables' statistics until its transaction ends; nobody waits for that.
  IF pg_try_advisory_xact_lock(plane_lock('learn_sizes')) THEN
    ANALYZE signals, runs, steps, tool_calls, effects, run_checkpoints, orchestration_events, outbox_events, outbox_queue;
  END IF;
END
$$;

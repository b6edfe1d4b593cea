-- Tells the planner how large the tables are by now, each time that a young log has doubled. While they are empty one index costs what another does, and
-- connections keep the plans they made then; autovacuum would say so too, but up to a minute later.
CREATE FUNCTION persistence.learn_sizes(first_number bigint, last_number bigint) RETURNS boolean
LANGUAGE plpgsql
SET default_statistics_target = 10  -- sizes, and roughly what is in them, from a sample of 3,000 rows
AS $$
DECLARE
  doubled CONSTANT bigint[] := '{100,200,400,800,1600,3200,6400,12800,25600,51200,102400}';
BEGIN
  -- Whoever is at it holds the tables' statistics until its transaction ends; nobody waits for that.
  IF width_bucket(first_number - 1, doubled) < width_bucket(last_number, doubled)
    AND pg_try_advisory_xact_lock(plane_lock('learn_sizes'))
  THEN
    ANALYZE signals, runs, steps, tool_calls, effects, run_checkpoints, data_keys, secrets, vault_accesses, memories, memory_recalls, snapshots, orchestration_events, outbox_events, outbox_queue;
  END IF;
  RETURN true;
END
$$;

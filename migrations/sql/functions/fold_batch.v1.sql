-- Folds events in the course of a replay: as the write path does, by index and with plans that are kept.
CREATE FUNCTION persistence.fold_batch(batch persistence.orchestration_events[]) RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
  PERFORM set_config('persistence.leases', 'replay', true);  -- what executors did was looked at when they did it
  PERFORM fold_events(batch);
END
$$;

-- Folds the log of one tenant, or of all, into the tables that search_path finds first: a replay makes those empty temporary ones.
-- Returns the number of events.
CREATE FUNCTION persistence.fold_log(tenant_id uuid DEFAULT NULL, batch_size integer DEFAULT 2000) RETURNS bigint
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
  part record;
  folded bigint := 0;
BEGIN
  FOR part IN
    SELECT array_agg(numbered.log ORDER BY numbered.place) AS batch
    FROM (
      SELECT log, row_number() OVER (ORDER BY log.sequence_number) AS place
      FROM persistence.orchestration_events AS log
      WHERE fold_log.tenant_id IS NULL OR log.tenant_id = fold_log.tenant_id
    ) AS numbered
    GROUP BY (numbered.place - 1) / batch_size
    ORDER BY (numbered.place - 1) / batch_size
  LOOP
    PERFORM fold_events(part.batch);
    folded := folded + cardinality(part.batch);
  END LOOP;
  RETURN folded;
END
$$;

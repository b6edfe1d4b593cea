-- Folds the log of one tenant, or of all, into the tables that search_path finds first: a replay makes those empty temporary ones.
-- Returns the number of events.
--
-- since: only aggregates to which something happened from then on. sample: only so many of a hundred aggregates.
CREATE FUNCTION persistence.fold_log(
  tenant_id uuid DEFAULT NULL,
  since timestamptz DEFAULT NULL,
  sample double precision DEFAULT 100,
  batch_size integer DEFAULT 2000
) RETURNS bigint
LANGUAGE plpgsql
SET enable_hashagg = off  -- one sort, and then batch after batch: a long log would not fit into memory
AS $$
#variable_conflict use_column
DECLARE
  part record;
  folded bigint := 0;
BEGIN
  FOR part IN
    SELECT
      array_agg(CASE WHEN t.is_current THEN log ELSE upcast_event(log) END ORDER BY log.sequence_number) AS batch
    FROM persistence.orchestration_events AS log
    LEFT JOIN canon.event_types AS t USING (event_type, event_version)
    WHERE (fold_log.tenant_id IS NULL OR log.tenant_id = fold_log.tenant_id)
      AND (sample >= 100 OR in_sample(log.aggregate_id, sample))
      AND (
        since IS NULL
        OR (log.tenant_id, log.aggregate_id) IN (
          SELECT late.tenant_id, late.aggregate_id FROM persistence.orchestration_events AS late WHERE late.created_at >= since
        )
      )
    GROUP BY log.sequence_number / batch_size
    ORDER BY log.sequence_number / batch_size
  LOOP
    PERFORM fold_batch(part.batch);
    folded := folded + cardinality(part.batch);
  END LOOP;
  RETURN folded;
END
$$;

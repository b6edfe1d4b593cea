-- Folds events into the runtime tables: the same functions serve the write path, the outbox and the replay of the log, which points
-- search_path at empty tables. Returns what the events did to each aggregate.
CREATE FUNCTION persistence.fold_events(
  batch persistence.orchestration_events[], attachments jsonb DEFAULT NULL
) RETURNS persistence.aggregate_delta[]
LANGUAGE plpgsql
AS $$
DECLARE
  deltas aggregate_delta[] := batch_deltas(batch);
  done boolean;
BEGIN
  done := fold_deltas(deltas, attachments);
  RETURN deltas;
END
$$;

-- Folds events into the runtime tables: the same function serves the write path, the outbox and the replay of the log, which points
-- search_path at empty tables. Aggregates come in the order in which one may need the other.
CREATE FUNCTION persistence.fold_events(
  batch persistence.orchestration_events[], attachments jsonb DEFAULT NULL
) RETURNS persistence.aggregate_delta[]
LANGUAGE plpgsql
AS $$
DECLARE
  deltas aggregate_delta[] := batch_deltas(batch);
  part record;
BEGIN
  FOR part IN
    SELECT
      d.aggregate_type AS kind,
      count(*) FILTER (WHERE d.first_version = 1)::integer AS creations,
      count(*) FILTER (WHERE d.first_version > 1)::integer AS changes
    FROM unnest(deltas) AS d
    GROUP BY d.aggregate_type
    ORDER BY array_position(ARRAY['SIGNAL', 'RUN', 'STEP', 'TOOL_CALL', 'EFFECT', 'CHECKPOINT'], d.aggregate_type)
  LOOP
    CASE part.kind
      WHEN 'SIGNAL' THEN PERFORM fold_signals(deltas, part.creations, part.changes);
      WHEN 'RUN' THEN PERFORM fold_runs(deltas, part.creations, part.changes);
      WHEN 'STEP' THEN PERFORM fold_steps(deltas, part.creations, part.changes);
      WHEN 'TOOL_CALL' THEN PERFORM fold_tool_calls(deltas, part.creations, part.changes);
      WHEN 'EFFECT' THEN
        PERFORM fold_effects(deltas, part.creations, part.changes);
        PERFORM fold_outbox(deltas, part.creations, part.changes);
      WHEN 'CHECKPOINT' THEN PERFORM fold_checkpoints(deltas, part.creations, part.changes, attachments);
    END CASE;
  END LOOP;
  RETURN deltas;
END
$$;

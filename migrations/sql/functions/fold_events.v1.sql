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
  done boolean;
BEGIN
  IF cardinality(deltas) = 1 THEN  -- the commonest case by far needs no grouping
    done := fold_kind(
      deltas[1].aggregate_type, deltas, (deltas[1].first_version = 1)::integer, (deltas[1].first_version > 1)::integer, attachments
    );
    RETURN deltas;
  END IF;
  FOR part IN
    SELECT
      d.aggregate_type AS kind,
      count(*) FILTER (WHERE d.first_version = 1)::integer AS creations,
      count(*) FILTER (WHERE d.first_version > 1)::integer AS changes
    FROM unnest(deltas) AS d
    GROUP BY d.aggregate_type
    ORDER BY array_position(ARRAY['SIGNAL', 'RUN', 'STEP', 'TOOL_CALL', 'EFFECT', 'CHECKPOINT'], d.aggregate_type)
  LOOP
    done := fold_kind(part.kind, deltas, part.creations, part.changes, attachments);
  END LOOP;
  RETURN deltas;
END
$$;

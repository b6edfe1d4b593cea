-- Folds a batch of events into one delta an aggregate. Events of one aggregate chain by version: each must be allowed to follow the one
-- before it (lag), and their documents merge in order. Whether the first of them fits the row is seen when the delta is applied (fold_*).
CREATE FUNCTION persistence.batch_deltas(batch persistence.orchestration_events[]) RETURNS persistence.aggregate_delta[]
LANGUAGE plpgsql
AS $$
DECLARE
  deltas aggregate_delta[];
  is_broken boolean;
BEGIN
  WITH chained AS (
    SELECT
      e.tenant_id, e.aggregate_type, e.aggregate_id, e.aggregate_version, e.event_type, e.correlation_id, e.causation_id, e.actor, e.id,
      e.created_at, e.sequence_number,
      t.from_statuses,
      t.to_status,
      t.counts,
      event_document(e.event_data, e.occurred_at, t.stamps, t.clears) AS doc,
      lag(e.aggregate_version) OVER life AS previous_version,
      lag(t.to_status) OVER life AS previous_status,
      lag(e.correlation_id) OVER life AS previous_correlation,
      lag(e.sequence_number) OVER life AS previous_number
    FROM unnest(batch) AS e
    JOIN canon.event_types AS t USING (event_type, event_version)
    WINDOW life AS (PARTITION BY e.tenant_id, e.aggregate_type, e.aggregate_id ORDER BY e.aggregate_version)
  ),
  folded AS (
    SELECT
      ROW(
        c.tenant_id,
        c.aggregate_type,
        c.aggregate_id,
        min(c.aggregate_version),
        min(c.sequence_number),
        max(c.aggregate_version),
        (array_agg(c.event_type ORDER BY c.aggregate_version))[1],
        min(c.from_statuses) FILTER (WHERE c.previous_version IS NULL),
        (array_agg(c.to_status ORDER BY c.aggregate_version))[count(*)],
        count(c.counts)::integer,
        (array_agg(c.correlation_id ORDER BY c.aggregate_version))[1],
        (array_agg(c.causation_id ORDER BY c.aggregate_version))[1],
        (array_agg(c.actor ORDER BY c.aggregate_version))[1],
        (array_agg(c.id ORDER BY c.aggregate_version))[count(*)],
        (array_agg(c.created_at ORDER BY c.aggregate_version))[1],
        max(c.created_at),
        jsonb_merge(c.doc ORDER BY c.aggregate_version)
      )::aggregate_delta AS delta,
      bool_or(
        c.previous_version IS NOT NULL
        AND (
          c.aggregate_version <> c.previous_version + 1
          OR c.sequence_number < c.previous_number
          OR c.correlation_id <> c.previous_correlation
          OR c.previous_status <> ALL (c.from_statuses)
        )
      ) AS is_broken
    FROM chained AS c
    GROUP BY c.tenant_id, c.aggregate_type, c.aggregate_id
  )
  SELECT array_agg(f.delta), bool_or(f.is_broken)
  INTO deltas, is_broken
  FROM folded AS f;

  IF is_broken THEN
    PERFORM refuse_chain(batch);
  END IF;
  RETURN deltas;
END
$$;

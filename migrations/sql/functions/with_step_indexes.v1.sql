-- A batch in which every step that begins has a step_index: after those its run has, in the order of the batch. The number goes into the
-- event, so that a replay gives the same.
CREATE FUNCTION persistence.with_step_indexes(tenant_id uuid, events jsonb) RETURNS jsonb
LANGUAGE sql STABLE
AS $$
  WITH items AS (
    SELECT
      i.event,
      i.position,
      i.event ->> 'aggregate_type' = 'STEP'
        AND (i.event ->> 'aggregate_version')::integer = 1
        AND NOT i.event -> 'event_data' ? 'step_index' AS lacks_index,
      (i.event #>> '{event_data,run_id}')::uuid AS run_id
    FROM jsonb_array_elements(events) WITH ORDINALITY AS i (event, position)
  ),
  next_index AS (
    SELECT r.run_id, coalesce(greatest(max(s.step_index), max(r.given_index)), -1) AS last_index
    FROM (
      SELECT i.run_id, max((i.event #>> '{event_data,step_index}')::integer) AS given_index
      FROM items AS i
      WHERE i.run_id IS NOT NULL
      GROUP BY i.run_id
    ) AS r
    LEFT JOIN LATERAL (
      SELECT s.step_index
      FROM persistence.steps AS s
      WHERE s.tenant_id = with_step_indexes.tenant_id
        AND s.run_id = r.run_id
      ORDER BY s.step_index DESC
      LIMIT 1
    ) AS s ON true
    GROUP BY r.run_id
  )
  SELECT jsonb_agg(
    CASE
      WHEN i.lacks_index THEN
        jsonb_set(i.event, '{event_data,step_index}', to_jsonb(n.last_index + i.rank))
      ELSE i.event
    END
    ORDER BY i.position
  )
  FROM (SELECT i.*, row_number() OVER (PARTITION BY i.run_id, i.lacks_index ORDER BY i.position) AS rank FROM items AS i) AS i
  LEFT JOIN next_index AS n USING (run_id)
$$;

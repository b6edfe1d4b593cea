-- The events of a batch as rows, each with its place and with what its type says; unknown types say nothing.
SELECT
  i.*, t.event_type IS NOT NULL AS is_known, t.is_current, t.writer, t.creating_keys, t.required_keys, t.known_keys, t.later_keys, t.data_rule, t.may_begin,
  t.from_statuses, t.to_status, t.counts, t.stamps, t.clears
FROM ROWS FROM (
  jsonb_to_recordset(events) AS (
    id uuid, event_type text, event_version smallint, aggregate_type text, aggregate_id uuid, aggregate_version integer,
    event_data jsonb, correlation_id uuid, causation_id uuid, actor text, source text, occurred_at timestamptz, attachment text
  )
) WITH ORDINALITY AS i (
  id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version,
  event_data, correlation_id, causation_id, actor, source, occurred_at, attachment, "position"
)
LEFT JOIN canon.event_types AS t USING (event_type, event_version, aggregate_type)

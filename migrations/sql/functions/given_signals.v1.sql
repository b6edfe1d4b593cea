-- The rows of receive_signals' argument.
CREATE FUNCTION persistence.given_signals(signals jsonb) RETURNS TABLE (
  id uuid, event_id uuid, source_channel text, source_id text, signal_type text, signal_key text, payload jsonb, attributes jsonb, correlation_id uuid,
  actor text, source text, occurred_at timestamptz, "position" bigint
)
LANGUAGE sql IMMUTABLE
AS $$
  SELECT g.*
  FROM ROWS FROM (
    jsonb_to_recordset(signals) AS (
      id uuid, event_id uuid, source_channel text, source_id text, signal_type text, signal_key text, payload jsonb, attributes jsonb, correlation_id uuid,
      actor text, source text, occurred_at timestamptz
    )
  ) WITH ORDINALITY AS g
$$;

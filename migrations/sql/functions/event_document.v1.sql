-- What one event sets in its aggregate's row: its data, the timestamp column it stamps, the columns it empties.
CREATE FUNCTION persistence.event_document(event_data jsonb, occurred_at timestamptz, stamps text, clears jsonb) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
  SELECT CASE
    WHEN stamps IS NULL THEN clears || event_data
    ELSE clears || event_data || jsonb_build_object(stamps, occurred_at)
  END
$$;

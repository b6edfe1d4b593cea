-- The attachments of a batch by aggregate id, each JSON that PostgreSQL can hold, and checked against the digest (SHA-256 of its UTF-8 bytes) and size
-- that its event names.
CREATE FUNCTION persistence.checked_attachments(events jsonb) RETURNS jsonb
LANGUAGE plpgsql
AS $$
DECLARE
  attachments jsonb;
  bad text;
  unreadable text;
BEGIN
  SELECT
    jsonb_object_agg((e.event ->> 'aggregate_id')::uuid, e.event ->> 'attachment'),
    min(e.event ->> 'aggregate_id') FILTER (
      WHERE encode(sha256(convert_to(e.event ->> 'attachment', 'UTF8')), 'hex') IS DISTINCT FROM e.event #>> '{event_data,digest}'
        OR octet_length(e.event ->> 'attachment') IS DISTINCT FROM (e.event #>> '{event_data,size_bytes}')::integer
    ),
    min(e.event ->> 'aggregate_id') FILTER (WHERE NOT pg_input_is_valid(e.event ->> 'attachment', 'jsonb'))
  INTO attachments, bad, unreadable
  FROM jsonb_array_elements(events) AS e (event)
  WHERE e.event ? 'attachment'
    AND e.event ->> 'event_type' = 'CHECKPOINT_SAVED';
  IF bad IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('checkpoint %s: attachment does not have the digest and size that its event names', bad),
      HINT = 'digest is the SHA-256 of the attachment''s UTF-8 bytes in hexadecimal.';
  ELSIF unreadable IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('checkpoint %s: attachment is no JSON that PostgreSQL can hold', unreadable),
      HINT = 'It takes no NUL, no half of a surrogate pair, and no number beyond numeric.';
  END IF;
  RETURN attachments;
END
$$;

-- The attachments of a batch by aggregate id: the state of a checkpoint, which is JSON that PostgreSQL can hold; a sealed secret or a wrapped key, in base64.
-- Each is checked against the digest (SHA-256 of its UTF-8 bytes) that its event names, and the size, where it names one.
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
    min(concat_ws(' ', lower(e.event ->> 'aggregate_type'), e.event ->> 'aggregate_id')) FILTER (
      WHERE encode(sha256(convert_to(e.event ->> 'attachment', 'UTF8')), 'hex') IS DISTINCT FROM e.event #>> '{event_data,digest}'
        OR octet_length(e.event ->> 'attachment')
          IS DISTINCT FROM CASE WHEN e.event ->> 'event_type' IN ('CHECKPOINT_SAVED', 'MEMORY_REMEMBERED') THEN (e.event #>> '{event_data,size_bytes}')::integer ELSE octet_length(e.event ->> 'attachment') END
    ),
    min(concat_ws(' ', lower(e.event ->> 'aggregate_type'), e.event ->> 'aggregate_id')) FILTER (
      WHERE NOT CASE e.event ->> 'event_type'
        WHEN 'CHECKPOINT_SAVED' THEN CASE
          WHEN NOT pg_input_is_valid(e.event ->> 'attachment', 'jsonb') THEN false
          WHEN octet_length(e.event ->> 'attachment') - octet_length(translate(e.event ->> 'attachment', '[{', '')) < 200 THEN true  -- too few to be deep
          ELSE NOT (e.event ->> 'attachment')::jsonb @? '$.**{200}'
        END
        WHEN 'MEMORY_REMEMBERED' THEN octet_length(e.event ->> 'attachment') <= 65536
        ELSE octet_length(e.event ->> 'attachment') <= 131072 AND e.event ->> 'attachment' ~ '^[A-Za-z0-9+/]+={0,2}$'
      END
    )
  INTO attachments, bad, unreadable
  FROM jsonb_array_elements(events) AS e (event)
  WHERE e.event ? 'attachment'
    AND e.event ->> 'event_type' = ANY ('{CHECKPOINT_SAVED,MEMORY_REMEMBERED,SECRET_SET,SECRET_REWRAPPED,DATA_KEY_CREATED,DATA_KEY_REWRAPPED}');
  IF bad IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('%s: attachment does not have the digest and size that its event names', bad),
      HINT = 'digest is the SHA-256 of the attachment''s UTF-8 bytes in hexadecimal.';
  ELSIF unreadable IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('%s: attachment is no JSON that PostgreSQL can hold, is nested deeper than 200, or is no base64 of at most 128 KiB', unreadable),
      HINT = 'A saved state is JSON without NUL, half of a surrogate pair, or a number beyond numeric. What is sealed is base64.';
  END IF;
  RETURN attachments;
END
$$;

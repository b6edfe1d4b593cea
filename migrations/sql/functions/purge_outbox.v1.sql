-- Deletes at most `most` records of entries that reached the end of their way longer than `older_than` ago. The log keeps what happened.
-- Returns how many went.
CREATE FUNCTION persistence.purge_outbox(older_than interval, most integer DEFAULT 10000) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
DECLARE
  purged integer;
BEGIN
  IF (older_than >= interval '1 hour') IS NOT TRUE OR (most BETWEEN 1 AND 1000000) IS NOT TRUE THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('older_than: %s is less than an hour, or most: %s is not between 1 and 1000000', older_than, most),
      HINT = 'What was delivered within the hour is what is asked about most.';
  END IF;
  DELETE FROM outbox_events AS o
  USING (
    SELECT p.tenant_id, p.id
    FROM outbox_events AS p
    WHERE p.published_at < now() - older_than
      AND p.status = 'PUBLISHED'
    ORDER BY p.published_at
    LIMIT most
    FOR UPDATE SKIP LOCKED
  ) AS old
  WHERE o.tenant_id = old.tenant_id
    AND o.id = old.id;
  GET DIAGNOSTICS purged = ROW_COUNT;
  RETURN purged;
END
$$;

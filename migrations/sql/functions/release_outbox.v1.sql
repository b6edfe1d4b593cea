-- Lets entries go that were held back: those named, or all. Returns their ids.
-- Granted to nobody: an administrator calls it as persistence_system.
CREATE FUNCTION persistence.release_outbox(ids uuid[] DEFAULT NULL) RETURNS SETOF uuid
LANGUAGE sql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
  UPDATE outbox_queue AS q
  SET due_at = now(), updated_at = now()
  WHERE q.due_at = 'infinity'
    AND (ids IS NULL OR q.id = ANY (ids))
  RETURNING q.id
$$;

-- Lets entries go that were held back: those named, or all. Returns their ids.
-- Granted to nobody: an administrator calls it as persistence_system.
CREATE FUNCTION persistence.release_outbox(ids uuid[] DEFAULT NULL) RETURNS SETOF uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
DECLARE
  released outbox_queue[];
BEGIN
  WITH let_go AS (
    UPDATE outbox_queue AS q
    SET
      due_at = CASE WHEN q.ordering_key IS NULL THEN now() ELSE 'infinity' END,
      held_by = CASE WHEN q.ordering_key IS NOT NULL THEN 'KEY' END,
      updated_at = now()
    WHERE q.held_by = 'RESTORE'
      AND (ids IS NULL OR q.id = ANY (ids))
    RETURNING q.*
  )
  SELECT array_agg(l::outbox_queue) INTO released FROM let_go AS l;
  PERFORM leave_marks(ARRAY(SELECT r.tenant_id FROM unnest(released) AS r), ARRAY(SELECT r.effect_type FROM unnest(released) AS r));
  PERFORM lock_keys(ARRAY(SELECT r.tenant_id FROM unnest(released) AS r), ARRAY(SELECT r.ordering_key FROM unnest(released) AS r));
  PERFORM open_keys(ARRAY(SELECT r.tenant_id FROM unnest(released) AS r), ARRAY(SELECT r.ordering_key FROM unnest(released) AS r));
  RETURN QUERY
    SELECT r.id FROM unnest(released) AS r;
END
$$;

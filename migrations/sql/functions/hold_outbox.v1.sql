-- Holds back everything that is to be delivered, and returns it: after a restore, for what was delivered meanwhile is not known here.
-- Granted to nobody: an administrator calls it as persistence_system.
CREATE FUNCTION persistence.hold_outbox() RETURNS SETOF persistence.outbox_queue
LANGUAGE sql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
  UPDATE outbox_queue AS q
  SET
    due_at = 'infinity', held_by = 'RESTORE', leased_until = NULL, lease_token = NULL, leased_by = NULL, is_counted = false, updated_at = now()
  WHERE coalesce(q.held_by, '') NOT IN ('DEAD_LETTER', 'CANCELLED')
  RETURNING q.*
$$;

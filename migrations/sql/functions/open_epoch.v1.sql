-- Begins a new epoch of the log after epoch `after`, unless somebody did meanwhile. Returns the present one. After a restore this must be called: the
-- cluster is the same, but its transaction ids are given out a second time.
-- Granted to nobody: an administrator calls it as persistence_system.
CREATE FUNCTION persistence.open_epoch(after integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(plane_lock('log_epoch'));
  INSERT INTO canon.log_epochs (epoch, system_identifier, first_sequence_number)
  SELECT
    coalesce(max(e.epoch), 0) + 1,
    (SELECT s.system_identifier FROM pg_control_system() AS s),
    coalesce(pg_sequence_last_value('orchestration_events_sequence_number_seq'), 0) + 1
  FROM canon.log_epochs AS e
  HAVING max(e.epoch) IS NOT DISTINCT FROM open_epoch.after;
  RETURN (SELECT max(e.epoch) FROM canon.log_epochs AS e);
END
$$;

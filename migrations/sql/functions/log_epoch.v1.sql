-- The epoch the log is in, opened anew when this cluster is not the one that the last epoch was opened in.
CREATE FUNCTION persistence.log_epoch() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
DECLARE
  this_system bigint := (SELECT s.system_identifier FROM pg_control_system() AS s);
  latest canon.log_epochs;
BEGIN
  SELECT e.* INTO latest FROM canon.log_epochs AS e ORDER BY e.epoch DESC LIMIT 1;
  IF latest.system_identifier = this_system THEN
    RETURN latest.epoch;
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('persistence.log_epoch', 0));
  INSERT INTO canon.log_epochs (epoch, system_identifier, first_sequence_number)
  SELECT
    coalesce(max(e.epoch), 0) + 1,
    this_system,
    coalesce(pg_sequence_last_value('orchestration_events_sequence_number_seq'), 0) + 1
  FROM canon.log_epochs AS e
  HAVING coalesce(max(e.epoch) FILTER (WHERE e.system_identifier = this_system), 0) < coalesce(max(e.epoch), 1);
  RETURN (SELECT max(e.epoch) FROM canon.log_epochs AS e);
END
$$;

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
  RETURN open_epoch(latest.epoch);
END
$$;

-- Rebuilds the projections from the runtime tables. Readers go on while it runs. One caller at a time: false for one that does not wait when another is at it.
CREATE FUNCTION persistence.refresh_projections(waits boolean DEFAULT true) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  IF waits THEN
    PERFORM pg_advisory_xact_lock(plane_lock('refresh_projections'));
  ELSIF NOT pg_try_advisory_xact_lock(plane_lock('refresh_projections')) THEN
    RETURN false;
  END IF;
  REFRESH MATERIALIZED VIEW CONCURRENTLY run_summary;
  RETURN true;
END
$$;

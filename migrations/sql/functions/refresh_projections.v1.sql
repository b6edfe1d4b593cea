-- Rebuilds the projections from the runtime tables. Readers go on while it runs, except for the first time.
CREATE FUNCTION persistence.refresh_projections() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  IF (SELECT c.relispopulated FROM pg_class AS c WHERE c.oid = 'run_summary'::regclass) THEN
    REFRESH MATERIALIZED VIEW CONCURRENTLY run_summary;
  ELSE
    REFRESH MATERIALIZED VIEW run_summary;
  END IF;
END
$$;

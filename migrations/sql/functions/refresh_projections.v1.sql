-- Rebuilds the projections from the runtime tables. Readers go on while it runs.
CREATE FUNCTION persistence.refresh_projections() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  REFRESH MATERIALIZED VIEW CONCURRENTLY run_summary;
END
$$;

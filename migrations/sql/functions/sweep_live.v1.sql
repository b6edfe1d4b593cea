-- Takes away what was told more than ten minutes ago, at most 10,000 messages at a time. Returns how many there were.
CREATE FUNCTION persistence.sweep_live() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
DECLARE
  swept integer;
BEGIN
  WITH old AS MATERIALIZED (
    SELECT m.tenant_id, m.id
    FROM live_messages AS m
    WHERE m.created_at < now() - interval '10 minutes'
    ORDER BY m.created_at
    LIMIT 10000
  ),
  gone AS (
    DELETE FROM live_messages AS m
    USING old
    WHERE m.tenant_id = old.tenant_id
      AND m.id = old.id
    RETURNING m.tenant_id, m.number
  ),
  marked AS (
    UPDATE live_feeds AS f
    SET swept_to = greatest(f.swept_to, g.number)
    FROM (SELECT d.tenant_id, max(d.number) AS number FROM gone AS d GROUP BY d.tenant_id) AS g
    WHERE f.tenant_id = g.tenant_id
  )
  SELECT count(*) INTO swept FROM gone;
  RETURN swept;
END
$$;

-- Tells how deliveries to destinations went, one element a destination: whether one of them got an answer (any, also a refusal), and how many have
-- failed in a row since. After `thresholds` failures in a row a destination rests for `rests`, and twice as long after each further one, up to 32 times. Returns the destinations that rest now.
CREATE FUNCTION persistence.report_destinations(
  tenant_ids uuid[], destinations text[], answered boolean[], failures integer[], thresholds integer[], rests interval[]
) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
DECLARE
  resting text[];
BEGIN
  DELETE FROM outbox_destinations AS d
  USING unnest(tenant_ids, report_destinations.destinations, answered) AS g (tenant_id, destination, has_answered)
  WHERE d.tenant_id = g.tenant_id
    AND d.destination = g.destination
    AND g.has_answered;

  WITH failed AS (
    INSERT INTO outbox_destinations AS d (tenant_id, destination, failures, open_until)
    SELECT g.tenant_id, g.destination, g.failed, CASE WHEN g.failed >= g.threshold THEN now() + g.rest END
    FROM unnest(tenant_ids, report_destinations.destinations, report_destinations.failures, thresholds, rests)
      AS g (tenant_id, destination, failed, threshold, rest)
    WHERE g.failed > 0
    ORDER BY g.tenant_id, g.destination
    ON CONFLICT (tenant_id, destination) DO UPDATE
    SET
      failures = d.failures + excluded.failures,
      open_until = (
        SELECT CASE
          WHEN d.open_until IS NOT NULL AND d.failures >= g.threshold THEN now() + g.rest * 2 ^ least(d.failures + excluded.failures - g.threshold, 5)
          WHEN d.failures + excluded.failures >= g.threshold THEN now() + g.rest
        END
        FROM unnest(tenant_ids, report_destinations.destinations, thresholds, rests) AS g (tenant_id, destination, threshold, rest)
        WHERE g.tenant_id = d.tenant_id
          AND g.destination = d.destination
      ),
      updated_at = now()
    RETURNING d.destination, d.open_until
  )
  SELECT array_agg(f.destination) FILTER (WHERE f.open_until IS NOT NULL) INTO resting FROM failed AS f;
  RETURN coalesce(resting, '{}');
END
$$;

-- Tells how deliveries to destinations went, one element a destination: whether one of them got an answer (any, also a refusal), and how many have
-- failed in a row since. After `thresholds` failures in a row a destination rests for `rests`, and twice as long after each further one, up to 32 times. It is never more than an hour. Returns the destinations that rest now.
CREATE FUNCTION persistence.report_destinations(
  tenant_ids uuid[], destinations text[], answered boolean[], failures integer[], thresholds integer[], rests interval[]
) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
DECLARE
  resting text[];
BEGIN
  IF EXISTS (
    SELECT
    FROM unnest(report_destinations.failures, thresholds, rests) AS g (failed, threshold, rest)
    WHERE (g.failed BETWEEN 0 AND 1000000 AND g.threshold BETWEEN 1 AND 1000000 AND g.rest BETWEEN interval '0' AND interval '1 hour') IS NOT TRUE
  ) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = 'failures, thresholds, rests: a destination rests after 1 to 1000000 failures, for an hour at most',
      HINT = 'A rest grows by itself while the destination keeps failing.';
  END IF;
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
          WHEN d.open_until IS NOT NULL AND d.failures >= g.threshold THEN now() + least(g.rest * 2 ^ least(d.failures + excluded.failures - g.threshold, 5), interval '1 hour')
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

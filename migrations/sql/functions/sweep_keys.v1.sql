-- Gives turns to ordering keys that lost theirs: their first entry waits, and none of them has it. At most a thousand keys at a time; those that
-- somebody is writing are left alone. Returns how many there were.
CREATE FUNCTION persistence.sweep_keys() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
DECLARE
  waiting record;
  found_keys integer := 0;
BEGIN
  FOR waiting IN
    SELECT f.tenant_id, f.ordering_key
    FROM (
      SELECT DISTINCT ON (q.tenant_id, q.ordering_key) q.tenant_id, q.ordering_key, q.held_by
      FROM outbox_queue AS q
      WHERE q.ordering_key IS NOT NULL
      ORDER BY q.tenant_id, q.ordering_key, q.position
    ) AS f
    WHERE f.held_by = 'KEY'
      AND NOT EXISTS (
        SELECT
        FROM outbox_queue AS a
        WHERE a.tenant_id = f.tenant_id
          AND a.ordering_key = f.ordering_key
          AND a.held_by IS NULL
      )
    LIMIT 1000
  LOOP
    IF pg_try_advisory_xact_lock(ordering_key_lock(waiting.tenant_id, waiting.ordering_key)) THEN
      PERFORM open_keys(ARRAY[waiting.tenant_id], ARRAY[waiting.ordering_key]);
      found_keys := found_keys + 1;
    END IF;
  END LOOP;
  RETURN found_keys;
END
$$;

-- Trigger of snapshots: the last one that was verified of what it is of stays.
CREATE FUNCTION persistence.refuse_last_snapshot() RETURNS trigger
LANGUAGE plpgsql
SET search_path = persistence, pg_temp
AS $$
BEGIN
  PERFORM
  FROM snapshots AS s
  WHERE s.tenant_id = NEW.tenant_id
    AND s.snapshot_kind = NEW.snapshot_kind
    AND s.subject IS NOT DISTINCT FROM NEW.subject
    AND s.id <> NEW.id
    AND s.status = 'VERIFIED'
  LIMIT 1
  FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE002',
      MESSAGE = format('snapshot %s is the last one of its kind that was verified', NEW.folder),
      HINT = 'Take and verify another one first: persistence snapshot take, persistence snapshot verify.';
  END IF;
  RETURN NEW;
END
$$;

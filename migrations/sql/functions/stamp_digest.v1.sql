-- Trigger of the log: each event enters it with its digest.
CREATE FUNCTION persistence.stamp_digest() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  NEW.digest := persistence.event_digest(NEW);
  RETURN NEW;
END
$$;

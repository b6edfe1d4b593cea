-- Whoever appends, and by whatever function: the digest is made here.
CREATE TRIGGER stamp_digest
  BEFORE INSERT ON persistence.orchestration_events
  FOR EACH ROW
  EXECUTE FUNCTION persistence.stamp_digest();

-- Where a snapshot goes that is known to be good.
CREATE TRIGGER refuse_last_snapshot
  BEFORE UPDATE OF status ON persistence.snapshots
  FOR EACH ROW
  WHEN (NEW.status = 'DELETED' AND OLD.status = 'VERIFIED')
  EXECUTE FUNCTION persistence.refuse_last_snapshot();

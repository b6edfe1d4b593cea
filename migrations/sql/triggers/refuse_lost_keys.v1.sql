-- Where a secret gets its key, and where a key goes.
CREATE TRIGGER refuse_lost_keys
  BEFORE INSERT OR UPDATE OF key_id ON persistence.secrets
  FOR EACH ROW
  WHEN (NEW.status = 'HELD')
  EXECUTE FUNCTION persistence.refuse_lost_keys();
CREATE TRIGGER refuse_lost_keys
  BEFORE UPDATE OF status ON persistence.data_keys
  FOR EACH ROW
  WHEN (NEW.status = 'DESTROYED' AND OLD.status = 'ACTIVE')
  EXECUTE FUNCTION persistence.refuse_lost_keys();

-- Where a text goes, its vectors do.
CREATE TRIGGER drop_vectors
  AFTER UPDATE OF status ON persistence.memories
  FOR EACH ROW
  WHEN (NEW.status = 'FORGOTTEN')
  EXECUTE FUNCTION persistence.drop_vectors();
CREATE TRIGGER drop_vectors
  AFTER UPDATE OF status ON persistence.memory_indexes
  FOR EACH ROW
  WHEN (NEW.status = 'RETIRED')
  EXECUTE FUNCTION persistence.drop_vectors();

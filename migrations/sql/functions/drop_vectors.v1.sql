-- Trigger of memories and of their indexes: what is forgotten or retired has no vectors.
CREATE FUNCTION persistence.drop_vectors() RETURNS trigger
LANGUAGE plpgsql
SET search_path = persistence, pg_temp
AS $$
BEGIN
  IF TG_TABLE_NAME = 'memories' THEN
    DELETE FROM memory_vectors AS v WHERE v.tenant_id = NEW.tenant_id AND v.memory_id = NEW.id;
  ELSE
    DELETE FROM memory_vectors AS v WHERE v.tenant_id = NEW.tenant_id AND v.index_id = NEW.id;
  END IF;
  RETURN NULL;
END
$$;

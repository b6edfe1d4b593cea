-- What searches vectors quickly, where the server has pgvector 0.8 or newer and this login may add it; memories are found without it, too.
-- Run after the migrations, and again whenever it may have come since.
DO $$
DECLARE
  extension record;
  dimensions integer;
BEGIN
  IF EXISTS (SELECT FROM pg_available_extensions AS a WHERE a.name = 'vector' AND a.installed_version IS NULL) THEN
    BEGIN
      CREATE EXTENSION vector SCHEMA public;
    EXCEPTION WHEN insufficient_privilege THEN
      NULL;  -- persistence memory index list says so
    END;
  END IF;
  SELECT n.nspname, string_to_array(e.extversion, '.')::integer[] AS version
  INTO extension
  FROM pg_extension AS e
  JOIN pg_namespace AS n ON n.oid = e.extnamespace
  WHERE e.extname = 'vector';
  IF NOT FOUND OR extension.version < '{0,8}' THEN
    RETURN;
  END IF;
  SET LOCAL ROLE persistence_owner;
  -- as many dimensions as models in use have; what has others is compared one by one
  FOREACH dimensions IN ARRAY '{128,256,384,512,768,1024,1536,2048,2560,3072,4000}'::integer[] LOOP
    EXECUTE format(
      'CREATE INDEX IF NOT EXISTS %1$I ON persistence.memory_vectors USING hnsw ((embedding::%2$I.halfvec(%3$s)) %2$I.halfvec_ip_ops) WITH (ef_construction = 200) WHERE dimensions = %3$s',
      format('memory_vectors_%s_idx', dimensions), extension.nspname, dimensions
    );
  END LOOP;
END
$$;

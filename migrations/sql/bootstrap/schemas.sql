-- The two schemas: `persistence` for tenants' data, `canon` for reference data that is the same for all.
-- Nothing is created where they stand already, so that only the first migration needs CREATE on the database.
DO $$
BEGIN
  IF to_regnamespace('persistence') IS NULL THEN
    CREATE SCHEMA persistence;
  END IF;
  IF to_regnamespace('canon') IS NULL THEN
    CREATE SCHEMA canon;
  END IF;
  IF (SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'persistence') <> 'persistence_owner' THEN
    GRANT ALL ON SCHEMA persistence, canon TO persistence_owner WITH GRANT OPTION;
    ALTER SCHEMA persistence OWNER TO persistence_owner;
    ALTER SCHEMA canon OWNER TO persistence_owner;
  END IF;
END
$$;

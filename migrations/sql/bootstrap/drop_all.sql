-- Drops every object of both schemas, whoever owns it, except the migrations' own version table.
SET ROLE persistence_system;
DROP OWNED BY persistence_system CASCADE;
SET ROLE persistence_owner;
DO $$
DECLARE
  command text;
BEGIN
  FOREACH command IN ARRAY ARRAY(
    SELECT format('DROP TABLE IF EXISTS %I.%I CASCADE', t.schemaname, t.tablename)
    FROM pg_tables AS t
    WHERE t.schemaname IN ('persistence', 'canon')
      AND t.tablename <> 'schema_version'
    UNION ALL
    SELECT format('DROP %s IF EXISTS %s CASCADE', CASE p.prokind WHEN 'a' THEN 'AGGREGATE' ELSE 'ROUTINE' END, p.oid::regprocedure)
    FROM pg_proc AS p
    WHERE p.pronamespace = 'persistence'::regnamespace
  ) LOOP
    EXECUTE command;
  END LOOP;
  DROP TYPE IF EXISTS persistence.aggregate_delta, persistence.outbox_share CASCADE;
  REVOKE ALL ON SCHEMA persistence, canon
    FROM persistence_system, persistence_app, persistence_worker, persistence_operator, persistence_auditor;
END
$$;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;

-- The log is append-only for its owner too: see also the grants, which give nobody UPDATE, DELETE or TRUNCATE.
CREATE TRIGGER append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON persistence.orchestration_events
  FOR EACH STATEMENT
  EXECUTE FUNCTION persistence.refuse_change();

-- The roles of the plane. They are groups nobody logs in as, shared by all databases of a cluster; a login is granted the ones it needs.
DO $$
DECLARE
  role_name text;
BEGIN
  FOREACH role_name IN ARRAY ARRAY[
    'persistence_owner',     -- owns the schema and runs the migrations; row level security holds for it too
    'persistence_system',    -- owns the functions that must work across tenants: claim, settle, projections
    'persistence_app',       -- services: reads under row level security, writes through functions
    'persistence_worker',    -- the outbox worker: claim and settle
    'persistence_operator',  -- requeues and discards dead letters, creates tenants
    'persistence_auditor'    -- reads all tenants: gates, metrics, replay
  ] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;  -- another database of this cluster is being migrated at the same moment
      END;
    END IF;
  END LOOP;
  -- Who holds back the readers of the log is seen in pg_stat_activity, as far as the administrator can let the auditor see it.
  BEGIN
    GRANT pg_read_all_stats TO persistence_auditor;
  EXCEPTION WHEN insufficient_privilege THEN
    NULL;
  END;
  -- An administrator without superuser rights becomes able to act as the two owning roles, without inheriting from them.
  IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    FOREACH role_name IN ARRAY ARRAY['persistence_owner', 'persistence_system'] LOOP
      BEGIN
        IF NOT pg_has_role(current_user, role_name, 'SET') THEN
          EXECUTE format('GRANT %I TO %I WITH INHERIT FALSE, SET TRUE', role_name, current_user);
        END IF;
      EXCEPTION WHEN insufficient_privilege THEN
        RAISE EXCEPTION USING
          ERRCODE = 'insufficient_privilege',
          MESSAGE = format('another login of this cluster made the roles of the plane, and %s may not act as %s', current_user, role_name),
          HINT = format('that login, or a superuser, can let it: GRANT persistence_owner, persistence_system TO %I WITH INHERIT FALSE, SET TRUE', current_user);
      END;
    END LOOP;
  END IF;
END
$$;

-- title: A service's login may call what services need
-- section: 3.1
-- law: CANON-PERSISTENCE-001 §5.1
-- severity: error
-- as: service
-- means: Services fail at their first transaction.
-- remedy: GRANT persistence_app TO the login, and run persistence migrate up.
SELECT w.name AS object, CASE WHEN p.oid IS NULL THEN 'does not exist' ELSE 'may not be executed' END AS detail
FROM (VALUES ('append_events'), ('receive_signals'), ('read_events'), ('enter_tenant')) AS w (name)
LEFT JOIN pg_proc AS p ON p.pronamespace = to_regnamespace('persistence') AND p.proname = w.name
WHERE p.oid IS NULL OR NOT has_function_privilege(p.oid, 'EXECUTE')

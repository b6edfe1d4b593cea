-- title: A service's login cannot write a table of the plane
-- section: 7.2
-- law: CANON-PERSISTENCE-001 §5.1
-- severity: error
-- as: service
-- means: Somewhere in the roles of this login there is a right to change state without an event.
-- remedy: REVOKE it; \du and \dp show where it comes from. The gates writes_by_functions_only and owning_roles_unused may say more.
SELECT c.oid::regclass::text AS object, 'the login may ' || p.privilege AS detail
FROM pg_class AS c
JOIN canon.tables AS t ON c.oid = to_regclass('persistence.' || t.table_name)
CROSS JOIN (VALUES ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE')) AS p (privilege)
WHERE has_table_privilege(c.oid, p.privilege)

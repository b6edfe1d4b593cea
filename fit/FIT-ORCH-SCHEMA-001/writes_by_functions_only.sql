-- title: Nobody writes a runtime table directly
-- section: 2.7
-- law: CANON-PERSISTENCE-001 §5.1
-- severity: error
-- means: A role can change state without an event.
-- remedy: REVOKE … ON … FROM …; let it call append_events.
SELECT c.oid::regclass::text AS object, g.privilege_type || ' for ' || CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS detail
FROM pg_class AS c
JOIN canon.tables AS t ON c.oid = to_regclass('persistence.' || t.table_name)
CROSS JOIN LATERAL aclexplode(c.relacl) AS g
WHERE g.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER', 'REFERENCES', 'MAINTAIN')
  AND g.grantee <> c.relowner
  AND (g.grantee = 0 OR g.grantee::regrole::text <> 'persistence_system')

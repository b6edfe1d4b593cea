-- title: Nobody was granted UPDATE, DELETE or TRUNCATE on the log
-- section: 2.9
-- law: CANON-EVENTS-001 §2.1
-- severity: error
-- means: A role can rewrite what happened.
-- remedy: REVOKE UPDATE, DELETE, TRUNCATE ON persistence.orchestration_events FROM …
SELECT 'persistence.orchestration_events' AS object, g.privilege_type || ' for ' || CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS detail
FROM pg_class AS c
CROSS JOIN LATERAL aclexplode(c.relacl) AS g
WHERE c.oid = to_regclass('persistence.orchestration_events')
  AND g.privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE')
  AND g.grantee <> c.relowner
UNION ALL
SELECT 'persistence.orchestration_events.' || a.attname, g.privilege_type || ' for ' || CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END
FROM pg_attribute AS a
CROSS JOIN LATERAL aclexplode(a.attacl) AS g
WHERE a.attrelid = to_regclass('persistence.orchestration_events')
  AND g.privilege_type = 'UPDATE'

-- title: Nobody writes single columns directly, but the operator who requeues
-- section: 2.7
-- law: CANON-PERSISTENCE-001 §5.1
-- severity: error
-- means: A role can change state without an event.
-- remedy: REVOKE UPDATE (…) ON … FROM …
SELECT c.oid::regclass || '.' || a.attname AS object, g.privilege_type || ' for ' || CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS detail
FROM pg_class AS c
JOIN canon.tables AS t ON c.oid = to_regclass('persistence.' || t.table_name)
JOIN pg_attribute AS a ON a.attrelid = c.oid
CROSS JOIN LATERAL aclexplode(a.attacl) AS g
WHERE g.privilege_type <> 'SELECT'
  AND NOT (
    g.grantee <> 0
    AND g.grantee::regrole::text = 'persistence_operator'
    AND g.privilege_type = 'UPDATE'
    AND t.table_name = 'outbox_events'
    AND a.attname IN ('status', 'retry_count', 'next_retry_at')
  )

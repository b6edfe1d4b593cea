-- title: No role or database switches protection off
-- section: 2.11
-- law: CANON-PERSISTENCE-001 §5.5
-- severity: error
-- means: session_replication_role = replica silences all triggers, foreign keys among them; row_security = off turns walls into errors.
-- remedy: ALTER ROLE … RESET …, or ALTER DATABASE … RESET …
SELECT coalesce('role ' || r.rolname, 'database ' || d.datname, 'all') AS object, setting AS detail
FROM pg_db_role_setting AS s
LEFT JOIN pg_roles AS r ON r.oid = s.setrole
LEFT JOIN pg_database AS d ON d.oid = s.setdatabase
CROSS JOIN LATERAL unnest(s.setconfig) AS setting
WHERE (s.setdatabase = 0 OR d.datname = current_database())
  AND setting ~ '^(session_replication_role=(?!origin)|row_security=(of?f?|f[als]*e?|no?|0)$)'

-- title: No role or database trades durability for speed
-- section: 2.11
-- law: CANON-PERSISTENCE-001 §8.1
-- severity: error
-- means: A commit that was reported may be lost in a crash, and an effect with it.
-- remedy: ALTER ROLE … RESET synchronous_commit, or ALTER DATABASE … RESET synchronous_commit.
SELECT coalesce('role ' || r.rolname, 'database ' || d.datname, 'all') AS object, setting AS detail
FROM pg_db_role_setting AS s
LEFT JOIN pg_roles AS r ON r.oid = s.setrole
LEFT JOIN pg_database AS d ON d.oid = s.setdatabase
CROSS JOIN LATERAL unnest(s.setconfig) AS setting
WHERE (s.setdatabase = 0 OR d.datname = current_database())
  AND setting ~ '^synchronous_commit=(of?f?|f[als]*e?|no?|0)$'

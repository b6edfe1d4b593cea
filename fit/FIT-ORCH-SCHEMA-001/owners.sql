-- title: Every object of the plane belongs to persistence_owner or persistence_system
-- section: 2.7
-- law: CANON-PERSISTENCE-001 §5.3
-- severity: error
-- means: A login or superuser owns it, so grants and row level security do not hold for that login.
-- remedy: ALTER … OWNER TO persistence_owner.
SELECT c.oid::regclass::text AS object, 'owned by ' || c.relowner::regrole AS detail
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname IN ('persistence', 'canon')
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND c.relowner::regrole::text NOT IN ('persistence_owner', 'persistence_system')
UNION ALL
SELECT p.oid::regprocedure::text, 'owned by ' || p.proowner::regrole
FROM pg_proc AS p
WHERE p.pronamespace = 'persistence'::regnamespace
  AND p.proowner::regrole::text NOT IN ('persistence_owner', 'persistence_system')

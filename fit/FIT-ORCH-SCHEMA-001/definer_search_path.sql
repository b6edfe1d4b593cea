-- title: Every SECURITY DEFINER function pins its search_path, with pg_temp last
-- section: 2.8
-- law: CANON-PERSISTENCE-001 §5.2
-- severity: error
-- means: Whoever calls it decides which tables and functions it means, and runs them with its rights.
-- remedy: ALTER FUNCTION … SET search_path = persistence, pg_temp.
SELECT p.oid::regprocedure::text AS object, coalesce((SELECT s FROM unnest(p.proconfig) AS s WHERE s LIKE 'search_path=%'), 'search_path is not set') AS detail
FROM pg_proc AS p
JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND p.prosecdef
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS s WHERE s ~ '^search_path=.*\mpg_temp$')

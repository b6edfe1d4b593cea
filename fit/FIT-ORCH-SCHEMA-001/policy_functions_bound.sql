-- title: What policies and security barriers call means the same for whoever asks
-- section: 2.6
-- law: CANON-PERSISTENCE-001 §4.4
-- severity: error
-- means: A function without a search_path of its own looks operators up where the caller says: who can make one there, decides what the policy answers.
-- remedy: Write the body as BEGIN ATOMIC or RETURN, or ALTER FUNCTION … SET search_path = persistence, pg_temp.
SELECT f.oid::regprocedure::text AS object, 'is called by ' || string_agg(DISTINCT c.oid::regclass::text, ', ') AS detail
FROM (
  SELECT d.refobjid AS function, p.polrelid AS relation
  FROM pg_depend AS d
  JOIN pg_policy AS p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
  WHERE d.refclassid = 'pg_proc'::regclass
  UNION ALL
  SELECT d.refobjid, r.ev_class
  FROM pg_depend AS d
  JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
  WHERE d.refclassid = 'pg_proc'::regclass
) AS x
JOIN pg_proc AS f ON f.oid = x.function
JOIN pg_class AS c ON c.oid = x.relation
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND f.prolang <> (SELECT l.oid FROM pg_language AS l WHERE l.lanname = 'internal')
  AND f.prosqlbody IS NULL
  AND NOT EXISTS (SELECT FROM unnest(f.proconfig) AS s (setting) WHERE s.setting LIKE 'search_path=%')
GROUP BY f.oid

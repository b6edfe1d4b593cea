-- title: Every view asks as whoever reads it, or is a security barrier that asks for the tenant
-- section: 2.6
-- law: CANON-PERSISTENCE-001 §4.5
-- severity: error
-- means: A view reads with the rights of its owner: services could read through it what they may not.
-- remedy: CREATE OR REPLACE VIEW … WITH (security_invoker = true).
SELECT c.oid::regclass::text AS object, 'options: ' || coalesce(array_to_string(c.reloptions, ', '), 'none') AS detail
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND c.relkind = 'v'
  AND NOT coalesce(c.reloptions && ARRAY['security_invoker=true', 'security_invoker=on', 'security_invoker=1'], false)
  AND NOT (
    coalesce(c.reloptions && ARRAY['security_barrier=true', 'security_barrier=on', 'security_barrier=1'], false)
    AND EXISTS (
      SELECT
      FROM pg_rewrite AS r
      JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
      WHERE r.ev_class = c.oid
        AND d.refclassid = 'pg_proc'::regclass
        AND d.refobjid = to_regprocedure('persistence.entered_tenant()')
    )
  )

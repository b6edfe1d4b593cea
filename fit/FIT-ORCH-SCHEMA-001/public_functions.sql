-- title: No function of the plane may be executed by everybody
-- section: 2.8
-- law: CANON-PERSISTENCE-001 §5.2
-- severity: error
-- means: Every login of the database may call it; if it is SECURITY DEFINER, with the rights of its owner.
-- remedy: REVOKE EXECUTE ON FUNCTION … FROM PUBLIC.
SELECT p.oid::regprocedure::text AS object, CASE WHEN p.prosecdef THEN 'SECURITY DEFINER, ' ELSE '' END || 'EXECUTE for PUBLIC' AS detail
FROM pg_proc AS p
JOIN pg_namespace AS n ON n.oid = p.pronamespace
CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS g
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND g.grantee = 0

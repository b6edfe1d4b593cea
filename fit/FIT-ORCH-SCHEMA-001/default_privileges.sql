-- title: What the owners make from now on is not for everybody to execute
-- section: 2.8
-- law: CANON-PERSISTENCE-001 §5.2
-- severity: error
-- means: The next function that a migration makes may be executed by every login.
-- remedy: ALTER DEFAULT PRIVILEGES FOR ROLE … REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC.
SELECT r.rolname::text AS object, 'new functions get EXECUTE for PUBLIC' AS detail
FROM pg_roles AS r
WHERE r.rolname IN ('persistence_owner', 'persistence_system')
  AND NOT EXISTS (
    SELECT
    FROM pg_default_acl AS d
    WHERE d.defaclrole = r.oid
      AND d.defaclobjtype = 'f'
      AND d.defaclnamespace = 0
      AND NOT EXISTS (SELECT FROM aclexplode(d.defaclacl) AS g WHERE g.grantee = 0)
  )

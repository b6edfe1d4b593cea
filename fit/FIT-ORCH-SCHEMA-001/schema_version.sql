-- title: The schema is at the version of this package
-- section: 2.10
-- law: CANON-PERSISTENCE-001 §7.1
-- severity: error
-- means: Migrations are missing, or the database is ahead of the package.
-- remedy: persistence migrate up, or install the package that the database was migrated with.
SELECT 'canon.schema_version' AS object, coalesce('is at ' || v.version_num, 'is empty') || ', the package at ' || :'head' AS detail
FROM (VALUES (1)) AS one
LEFT JOIN canon.schema_version AS v ON true
WHERE v.version_num IS DISTINCT FROM :'head'

-- title: No statement of the package reads a table that grows as a whole
-- section: 7.3
-- law: CANON-PERSISTENCE-001 §6.2
-- severity: error
-- as: service
-- needs: plans
-- means: The statement gets slower with every run that is recorded.
-- remedy: Look at canonical_indexes and foreign_keys_indexed; make the missing index CONCURRENTLY.
SELECT p.statement AS object, coalesce(p.error, 'reads all of ' || p.table_name) AS detail
FROM jsonb_to_recordset(:'plans') AS p (statement text, table_name text, error text)
LEFT JOIN canon.tables AS t ON t.table_name = p.table_name
WHERE p.error IS NOT NULL OR t.grows

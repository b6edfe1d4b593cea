-- title: Schema persistence has no tables but those of the canon
-- section: 2.10
-- law: CANON-ORCH-STATE-001 §2.8
-- severity: warning
-- means: A table that the canon does not know is in no replay, no backup check and no contract.
-- remedy: Keep it in a schema of your own and name that with --schema, or add it to canon/tables.yaml.
SELECT c.oid::regclass::text AS object, 'is not in canon/tables.yaml' AS detail
FROM pg_class AS c
WHERE c.relnamespace = 'persistence'::regnamespace
  AND c.relkind IN ('r', 'p')
  AND NOT EXISTS (SELECT FROM canon.tables AS t WHERE t.table_name = c.relname)

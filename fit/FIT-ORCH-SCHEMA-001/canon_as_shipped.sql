-- title: The canon in the database is the canon of this version of the package
-- section: 2.10
-- law: CANON-PERSISTENCE-001 §7.4
-- severity: error
-- means: Database and services apply different laws: other events, other transitions, other contracts.
-- remedy: Run persistence migrate up; where it says the schema is current, somebody changed schema canon by hand: load it again by a migration.
SELECT 'canon.' || coalesce(w.table_name, f.table_name) AS object, CASE WHEN f.line IS NULL THEN 'lacks ' ELSE 'has besides ' END || left(coalesce(w.line, f.line)::text, 300) AS detail
FROM (
  SELECT
    t.key AS table_name,
    e.line || CASE WHEN e.line ? 'data_rule' THEN jsonb_build_object('data_rule', (e.line ->> 'data_rule')::jsonpath::text) ELSE '{}' END AS line
  FROM jsonb_each(:'canon') AS t
  CROSS JOIN LATERAL jsonb_array_elements(t.value) AS e (line)
) AS w
FULL JOIN (
  SELECT 'release' AS table_name, to_jsonb(r) AS line FROM canon.release AS r
  UNION ALL SELECT 'rules', to_jsonb(r) FROM canon.rules AS r
  UNION ALL SELECT 'aggregates', to_jsonb(r) FROM canon.aggregates AS r
  UNION ALL SELECT 'part_of', to_jsonb(r) FROM canon.part_of AS r
  UNION ALL SELECT 'event_types', to_jsonb(r) FROM canon.event_types AS r
  UNION ALL SELECT 'upcasters', to_jsonb(r) FROM canon.upcasters AS r
  UNION ALL SELECT 'state_transitions', to_jsonb(r) FROM canon.state_transitions AS r
  UNION ALL SELECT 'tables', to_jsonb(r) FROM canon.tables AS r
  UNION ALL SELECT 'table_columns', to_jsonb(r) FROM canon.table_columns AS r
  UNION ALL SELECT 'table_keys', to_jsonb(r) FROM canon.table_keys AS r
) AS f ON f.table_name = w.table_name AND f.line = w.line
WHERE w.line IS NULL OR f.line IS NULL

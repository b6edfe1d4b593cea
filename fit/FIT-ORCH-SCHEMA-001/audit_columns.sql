-- title: Runtime tables carry correlation_id, causation_id, actor, version and last_event_id
-- section: 2.2
-- law: CANON-ORCH-STATE-001 §2.2
-- severity: error
-- means: A row of this table cannot be traced to who changed it, why, and what caused it.
-- remedy: Add the column as canon/tables.yaml has it, and fill it from the log.
SELECT 'persistence.' || g.table_name AS object, wanted.name || coalesce(' is ' || format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN '' ELSE ', NULL allowed' END, ' is missing') AS detail
FROM canon.aggregates AS g
CROSS JOIN (
  VALUES ('correlation_id', 'uuid', true), ('causation_id', 'uuid', false), ('actor', 'character varying(100)', true),
    ('version', 'integer', true), ('last_event_id', 'uuid', true)
) AS wanted (name, type, is_not_null)
LEFT JOIN pg_attribute AS a
  ON a.attrelid = to_regclass('persistence.' || g.table_name) AND a.attname = wanted.name AND NOT a.attisdropped
WHERE g.aggregate_type <> 'TENANT'
  AND (a.attname IS NULL OR format_type(a.atttypid, a.atttypmod) <> wanted.type OR (wanted.is_not_null AND NOT a.attnotnull))

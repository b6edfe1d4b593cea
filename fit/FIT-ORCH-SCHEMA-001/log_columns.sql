-- title: The log records correlation, cause, actor, source and time of every event
-- section: 2.2
-- law: CANON-TRACE-001 §2.1
-- severity: error
-- means: Events can be written without saying who did it, why, or when.
-- remedy: Restore the column and its NOT NULL as canon/tables.yaml has it.
SELECT 'persistence.orchestration_events' AS object, wanted.name || coalesce(' allows NULL' || left(a.attname, 0), ' is missing') AS detail
FROM (
  VALUES ('correlation_id', true), ('causation_id', false), ('actor', true), ('source', true), ('occurred_at', true), ('digest', true)
) AS wanted (name, is_not_null)
LEFT JOIN pg_attribute AS a
  ON a.attrelid = to_regclass('persistence.orchestration_events') AND a.attname = wanted.name AND NOT a.attisdropped
WHERE a.attname IS NULL OR (wanted.is_not_null AND NOT a.attnotnull)

-- title: The log numbers its events by itself
-- section: 2.2
-- law: CANON-EVENTS-001 §2.2
-- severity: error
-- means: sequence_number can be chosen by whoever writes, so it orders nothing.
-- remedy: ALTER TABLE persistence.orchestration_events ALTER COLUMN sequence_number ADD GENERATED ALWAYS AS IDENTITY.
SELECT 'persistence.orchestration_events.sequence_number' AS object, coalesce(nullif(a.attidentity::text, ''), 'no identity') || ' of type ' || format_type(a.atttypid, a.atttypmod) AS detail
FROM pg_attribute AS a
WHERE a.attrelid = to_regclass('persistence.orchestration_events')
  AND a.attname = 'sequence_number'
  AND (a.attidentity <> 'a' OR a.atttypid <> 'bigint'::regtype)

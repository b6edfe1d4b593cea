-- title: Triggers refuse UPDATE, DELETE and TRUNCATE of the log, and give each event its digest
-- section: 2.9
-- law: CANON-EVENTS-001 §2.1
-- severity: error
-- means: The owner of the table, or a superuser by mistake, can rewrite what happened without being stopped.
-- remedy: Make the trigger again as migrations/sql/triggers has it; then run persistence replay --verify.
SELECT 'persistence.orchestration_events' AS object, 'no trigger calls ' || w.function_name || ' ' || w.moment AS detail
FROM (
  VALUES ('refuse_change', 2 + 16, 'before UPDATE'), ('refuse_change', 2 + 8, 'before DELETE'), ('refuse_change', 2 + 32, 'before TRUNCATE'),
    ('stamp_digest', 1 + 2 + 4, 'before INSERT')
) AS w (function_name, bits, moment)
WHERE NOT EXISTS (
    SELECT
    FROM pg_trigger AS t
    WHERE t.tgrelid = to_regclass('persistence.orchestration_events')
      AND t.tgfoid = to_regproc('persistence.' || w.function_name)
      AND t.tgenabled IN ('O', 'A')
      AND t.tgqual IS NULL
      AND t.tgattr::text = ''
      AND t.tgtype::integer & w.bits = w.bits
  )

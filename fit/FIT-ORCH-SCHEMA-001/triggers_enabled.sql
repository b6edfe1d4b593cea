-- title: No trigger is switched off
-- section: 2.9
-- law: CANON-PERSISTENCE-001 §5.5
-- severity: error
-- means: Foreign keys are triggers too: with them off, orphans go in unseen.
-- remedy: ALTER TABLE … ENABLE TRIGGER ALL; then run FIT-DATA-QUALITY-001.
SELECT t.tgrelid::regclass::text AS object, 'trigger ' || CASE WHEN t.tgisinternal THEN 'of ' || k.conname ELSE t.tgname END || ' is off' AS detail
FROM pg_trigger AS t
JOIN pg_class AS c ON c.oid = t.tgrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_constraint AS k ON k.oid = t.tgconstraint
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND t.tgenabled IN ('D', 'R')

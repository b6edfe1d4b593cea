-- title: No rewrite rule stands between a statement and a table
-- section: 2.9
-- law: CANON-PERSISTENCE-001 §5.1
-- severity: error
-- means: Statements do something else than they say, or nothing at all.
-- remedy: DROP RULE … ON …
SELECT r.ev_class::regclass::text AS object, 'rule ' || r.rulename AS detail
FROM pg_rewrite AS r
JOIN pg_class AS c ON c.oid = r.ev_class
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (string_to_array(:'schemas', ','))
  AND c.relkind IN ('r', 'p')

-- title: No two events have one sequence number
-- section: 2.2
-- law: CANON-EVENTS-001 §2.2
-- severity: error
-- means: A reader that goes on after one of them misses the other.
-- remedy: Find out who wrote past append_events, or set the sequence back (setval) after a restore.
SELECT 'sequence number ' || e.sequence_number AS object, count(*) || ' events' AS detail
FROM persistence.orchestration_events AS e
WHERE e.created_at >= :'since'
GROUP BY e.sequence_number
HAVING count(*) > 1

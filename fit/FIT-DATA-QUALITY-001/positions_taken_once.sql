-- title: Nothing that a flow asked for was recorded twice
-- section: 2.5
-- law: CANON-FLOWS-001 §2.4
-- severity: error
-- means: Two executors had one run at a time, or somebody wrote a step of a flow by hand.
-- remedy: Find out who: persistence trace. The run goes on from the later of the two.
SELECT format('run %s at %s', s.run_id, s.position) AS object, count(*) || ' steps' AS detail
FROM persistence.steps AS s
WHERE s.updated_at >= :'since'
  AND s.position IS NOT NULL
GROUP BY s.tenant_id, s.run_id, s.position
HAVING count(*) > 1

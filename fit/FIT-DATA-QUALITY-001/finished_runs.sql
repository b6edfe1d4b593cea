-- title: Nothing goes on in a run that is completed or cancelled
-- section: 2.4
-- law: CANON-ORCH-STATE-001 §4.1
-- severity: warning
-- means: The run was ended over the head of a step, which still believes it is at work.
-- remedy: Let the service end its steps first; cancel the ones named here.
SELECT 'steps ' || s.id AS object, s.status || ' in run ' || r.id || ', which is ' || r.status AS detail
FROM persistence.steps AS s
JOIN persistence.runs AS r ON r.tenant_id = s.tenant_id AND r.id = s.run_id
WHERE s.updated_at >= :'since'
  AND r.status IN ('COMPLETED', 'CANCELLED')
  AND s.status IN ('PENDING', 'RUNNING', 'WAITING')

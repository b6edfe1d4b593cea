-- title: A leased run says by whom
-- section: 2.5
-- law: CANON-FLOWS-001 §2.4
-- severity: error
-- means: The list was written past the functions: nobody knows who has the run.
-- remedy: persistence replay --rebuild run_queue.
SELECT
  'run_queue ' || q.id AS object,
  CASE WHEN q.lease_token IS NULL THEN 'leased without a token' WHEN q.leased_until IS NULL THEN 'leased for no time' ELSE 'leased by nobody' END AS detail
FROM persistence.run_queue AS q
WHERE (q.lease_token IS NULL) <> (q.leased_by IS NULL)
  OR (q.lease_token IS NULL) <> (q.leased_until IS NULL)

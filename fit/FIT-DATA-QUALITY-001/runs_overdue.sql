-- title: No run of a flow has been due for more than an hour
-- section: 2.5
-- law: CANON-FLOWS-001 §2.4
-- severity: warning
-- means: Executors are too few, or none has this version of the flow.
-- remedy: Start more executors, or one that has the flow: persistence worker --app …
SELECT format('flow %s@%s of tenant %s', q.flow, q.flow_version, q.tenant_id) AS object, count(*) || ' due, the oldest since ' || min(q.due_at) AS detail
FROM persistence.run_queue AS q
WHERE (q.leased_until IS NULL OR q.leased_until < now())
  AND q.due_at < now() - interval '1 hour'
GROUP BY q.flow, q.flow_version, q.tenant_id

-- title: No run of a flow waits for what nobody will bring
-- section: 2.5
-- law: CANON-FLOWS-001 §2.2
-- severity: error
-- means: The run waits for ever: no time, signal, effect or child will wake it.
-- remedy: persistence replay --rebuild run_queue wakes it; the executor looks what has come.
SELECT 'runs ' || r.id AS object, format('flow %s@%s waits: %s', r.run_type, r.flow_version, r.wait_reason) AS detail
FROM persistence.runs AS r
WHERE r.flow_version IS NOT NULL
  AND r.status = 'WAITING'
  AND NOT EXISTS (SELECT FROM persistence.run_queue AS q WHERE q.tenant_id = r.tenant_id AND q.id = r.id AND q.held_by IS NULL)
  AND NOT EXISTS (
    SELECT
    FROM persistence.steps AS s
    WHERE s.tenant_id = r.tenant_id
      AND s.run_id = r.id
      AND (
        s.wait_until > now() - interval '1 hour'
        OR (
          s.status = 'WAITING'
          AND (
            (s.signal_key IS NOT NULL AND NOT EXISTS (
              SELECT
              FROM persistence.signals AS g
              WHERE g.tenant_id = s.tenant_id
                AND g.signal_type = s.signal_type
                AND g.signal_key = s.signal_key
                AND g.status = 'RECEIVED'
                AND g.updated_at < now() - interval '1 hour'
            ))
            OR EXISTS (
              SELECT
              FROM persistence.effects AS e
              WHERE e.tenant_id = s.tenant_id
                AND e.step_id = s.id
                AND (e.status = 'PENDING' OR e.updated_at > now() - interval '1 hour')
            )
            OR EXISTS (
              SELECT
              FROM persistence.runs AS c
              WHERE c.tenant_id = r.tenant_id
                AND c.parent_run_id = r.id
                AND (c.status IN ('PENDING', 'RUNNING', 'WAITING') OR c.updated_at > now() - interval '1 hour')
            )
          )
        )
      )
  )

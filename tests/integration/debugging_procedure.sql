-- Locate Signal
SELECT * FROM signals WHERE correlation_id = $correlation_id;
-- Locate Run
SELECT * FROM runs WHERE correlation_id = $correlation_id;
-- Reconstruct Steps
SELECT * FROM steps
WHERE run_id = $run_id
ORDER BY step_index ASC;
-- Retrieve Events
SELECT event_type, event_data, occurred_at, actor
FROM orchestration_events
WHERE correlation_id = $correlation_id
ORDER BY sequence_number ASC;
-- Check Effects
SELECT e.id, e.effect_type, e.status, e.execution_result
FROM effects e
JOIN runs r ON e.run_id = r.id
WHERE r.correlation_id = $correlation_id;
-- Check Outbox
SELECT o.event_type, o.status, o.retry_count, o.error_details
FROM outbox_events o
WHERE o.correlation_id = $correlation_id;
-- Validate Causation Chain
WITH RECURSIVE causal_chain AS (
  SELECT id, event_type, causation_id, 0 AS depth
  FROM orchestration_events
  WHERE correlation_id = $correlation_id AND causation_id IS NULL
  
  UNION ALL
  
  SELECT e.id, e.event_type, e.causation_id, c.depth + 1
  FROM orchestration_events e
  JOIN causal_chain c ON e.causation_id = c.id
)
SELECT * FROM causal_chain ORDER BY depth ASC;
-- Query failed steps
SELECT id, step_type, error_details
FROM steps
WHERE run_id = $run_id AND status = 'FAILED';
-- Check events for failure cause
SELECT event_type, event_data
FROM orchestration_events
WHERE aggregate_id = $failed_step_id AND event_type = 'STEP_FAILED';
-- Check tool calls
SELECT tool_name, tool_args, error_details
FROM tool_calls
WHERE step_id = $failed_step_id AND status = 'FAILED';
-- Verify retry attempts
SELECT retry_count FROM steps WHERE id = $failed_step_id;
-- Check effect status
SELECT status, retry_count, next_retry_at
FROM effects
WHERE id = $effect_id;
-- Check outbox entry
SELECT status, error_details, retry_count
FROM outbox_events
WHERE aggregate_type = 'EFFECT' AND aggregate_id = $effect_id;
-- If DEAD_LETTER, check reason
SELECT error_details FROM outbox_events WHERE id = $outbox_id;
-- Requeue if transient failure
UPDATE outbox_events
SET status = 'PENDING', retry_count = 0, next_retry_at = NULL
WHERE id = $outbox_id;

-- title: A trigger turns the operator's requeueing UPDATE into an event
-- section: 2.9
-- law: CANON-EVENTS-001 §7.2
-- severity: error
-- means: Requeueing by SQL changes state without an event, or puts nothing into the queue.
-- remedy: Make the trigger again as migrations/sql/triggers/requeue_by_update has it.
SELECT 'persistence.outbox_events' AS object, 'no trigger calls requeue_by_update' AS detail
WHERE NOT EXISTS (
  SELECT
  FROM pg_trigger AS t
  WHERE t.tgrelid = to_regclass('persistence.outbox_events')
    AND t.tgfoid = to_regproc('persistence.requeue_by_update')
    AND t.tgenabled IN ('O', 'A')
    AND t.tgtype = 1 + 2 + 16
    AND t.tgattr::text = ''
)

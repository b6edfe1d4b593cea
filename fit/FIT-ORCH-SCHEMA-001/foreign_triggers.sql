-- title: The plane's tables have no triggers but its own
-- section: 2.9
-- law: CANON-PERSISTENCE-001 §5.1
-- severity: error
-- means: A trigger changes rows without an event, or makes every commit wait for a NOTIFY.
-- remedy: DROP TRIGGER … ON …; follow the log by tx.events.read instead.
SELECT t.tgrelid::regclass::text AS object, 'trigger ' || t.tgname || ' calls ' || t.tgfoid::regproc AS detail
FROM pg_trigger AS t
JOIN canon.tables AS w ON t.tgrelid = to_regclass('persistence.' || w.table_name)
WHERE NOT t.tgisinternal
  AND (w.table_name, t.tgname::text, t.tgfoid::regproc::text) NOT IN (
    ('orchestration_events', 'append_only', 'persistence.refuse_change'),
    ('orchestration_events', 'stamp_digest', 'persistence.stamp_digest'),
    ('outbox_events', 'requeue_by_update', 'persistence.requeue_by_update'),
    ('secrets', 'refuse_lost_keys', 'persistence.refuse_lost_keys'),
    ('data_keys', 'refuse_lost_keys', 'persistence.refuse_lost_keys'),
    ('snapshots', 'refuse_last_snapshot', 'persistence.refuse_last_snapshot'),
    ('memories', 'drop_vectors', 'persistence.drop_vectors'),
    ('memory_indexes', 'drop_vectors', 'persistence.drop_vectors')
  )

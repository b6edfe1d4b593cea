-- title: The log's sequence is ahead of all its events
-- section: 2.2
-- law: CANON-EVENTS-001 §2.2
-- severity: error
-- means: The next event gets a number that is taken, or one in the midst of the past.
-- remedy: As the owner: SELECT setval(pg_get_serial_sequence('persistence.orchestration_events', 'sequence_number'), max(sequence_number)) FROM persistence.orchestration_events.
SELECT 'persistence.orchestration_events_sequence_number_seq' AS object, 'is at ' || coalesce(s.last_value::text, '(never used)') || ', the log at ' || e.highest AS detail
FROM pg_sequences AS s
CROSS JOIN (SELECT max(x.sequence_number) AS highest FROM persistence.orchestration_events AS x WHERE x.created_at >= :'since') AS e
WHERE s.schemaname = 'persistence'
  AND s.sequencename = 'orchestration_events_sequence_number_seq'
  AND e.highest > coalesce(s.last_value, 0)

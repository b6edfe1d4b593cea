-- What an event has to be: e, as it was given and with what its type says. explain_missing says what is wrong, in the same order.
-- (What is nested deeper than readers go is larger than 1,600 bytes.)
e.writer = 'service'
AND e.is_current
AND pg_column_size(e.event_data) <= event_bytes
AND e.event_data ?& CASE WHEN e.aggregate_version = 1 THEN e.creating_keys ELSE e.required_keys END
AND e.event_data - CASE WHEN e.aggregate_version = 1 THEN e.known_keys ELSE e.later_keys END = '{}'
AND e.event_data @@ e.data_rule
AND (pg_column_size(e.event_data) < 1600 OR NOT e.event_data @? '$.**{200}')
AND (e.attachment IS NOT NULL) = (e.event_type = ANY ('{CHECKPOINT_SAVED,MEMORY_REMEMBERED,SECRET_SET,SECRET_REWRAPPED,DATA_KEY_CREATED,DATA_KEY_REWRAPPED}'))
AND (e.causation_id IS NOT NULL OR (e.aggregate_version = 1 AND e.may_begin))
AND (e.occurred_at IS NULL OR e.occurred_at BETWEEN '0001-01-01 00:00:00+00' AND statement_timestamp() + interval '5 minutes')
AND e.source NOT IN ('outbox', 'operator', '')
AND NOT starts_with(e.actor, 'system:outbox-worker/')

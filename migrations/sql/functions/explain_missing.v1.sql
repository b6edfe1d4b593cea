-- Called when a batch did not go in whole. Either every event is in the log already, as it is here, and the answer is what was appended then;
-- or it raises what is wrong with the first one that is not. has_rival: whether a unique key was violated, and not only something is not lawful.
CREATE FUNCTION persistence.explain_missing(tenant_id uuid, events jsonb, has_rival boolean)
RETURNS TABLE (event_id uuid, sequence_number bigint, aggregate_id uuid, is_new boolean)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  item record;
  known integer := 0;
  is_torn boolean := false;  -- whether some of it are in the log, or twice in the batch
  ids uuid[];
  max_event_bytes CONSTANT integer := (SELECT l.event_bytes FROM canon.size_limits AS l);
BEGIN
  FOR item IN
    SELECT
      e.*,
      i.position,
      t.event_type IS NOT NULL AS is_type_known,
      t.is_current,
      t.writer,
      CASE WHEN e.aggregate_version = 1 THEN t.creating_keys ELSE t.required_keys END AS needed_keys,
      CASE WHEN e.aggregate_version = 1 THEN t.known_keys ELSE t.later_keys END AS allowed_keys,
      t.may_begin,
      t.field_rules,
      log.id AS logged_id,
      log.aggregate_id = e.aggregate_id
        AND log.aggregate_version = e.aggregate_version
        AND log.event_type = e.event_type
        AND (log.event_data = e.event_data OR log.event_data - 'step_index' = e.event_data) AS is_same,
      log.transaction_id = pg_current_xact_id() AS is_from_this_transaction,
      rival.id AS rival_id,
      row_number() OVER (PARTITION BY e.id ORDER BY i.position) > 1 AS is_repeated,
      row_number() OVER (PARTITION BY e.aggregate_id, e.aggregate_version ORDER BY i.position) > 1 AS is_second
    FROM jsonb_array_elements(events) WITH ORDINALITY AS i (event, position)
    CROSS JOIN LATERAL jsonb_to_record(i.event) AS e (
      id uuid, event_type text, event_version smallint, aggregate_type text, aggregate_id uuid, aggregate_version integer,
      event_data jsonb, causation_id uuid, actor text, source text, occurred_at timestamptz, attachment text
    )
    LEFT JOIN canon.event_types AS t USING (event_type, event_version, aggregate_type)
    LEFT JOIN orchestration_events AS log ON log.tenant_id = explain_missing.tenant_id AND log.id = e.id
    LEFT JOIN orchestration_events AS rival
      ON rival.tenant_id = explain_missing.tenant_id
      AND rival.aggregate_id = e.aggregate_id
      AND rival.aggregate_version = e.aggregate_version
    ORDER BY i.position
  LOOP
    IF NOT item.is_type_known THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE007',
        MESSAGE = format(
          'event %s: %s version %s is no event type of %s',
          item.position, coalesce(item.event_type, '(none)'), coalesce(item.event_version::text, '(none)'),
          coalesce(item.aggregate_type, '(none)')
        ),
        HINT = 'canon.event_types lists them.';
    ELSIF NOT item.is_current THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE007',
        MESSAGE = format('event %s: version %s of %s is no longer written', item.position, item.event_version, item.event_type),
        HINT = 'This process is older than the schema. Restart it with the present version of the package.';
    ELSIF item.writer <> 'service' THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE012',
        MESSAGE = format('event %s: %s is written by the %s only', item.position, item.event_type, item.writer),
        HINT = 'Use settle_outbox, requeue_outbox or discard_outbox with the role that may.';
    ELSIF pg_column_size(item.event_data) > max_event_bytes THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE006',
        MESSAGE = format(
          'event %s: event_data of %s bytes exceeds the limit of %s', item.position, pg_column_size(item.event_data), max_event_bytes
        ),
        HINT = 'Keep large things elsewhere and record where. The database''s limits are in canon.size_limits.';
    ELSIF item.aggregate_version = 1 AND item.needed_keys IS NULL THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE002',
        MESSAGE = format('%s %s: %s cannot be its first event', item.aggregate_type, item.aggregate_id, item.event_type),
        HINT = 'canon.state_transitions lists what may follow `new`.';
    ELSIF (item.event_data ?& item.needed_keys) IS NOT TRUE THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE008',
        MESSAGE = format('event %s: event_data of %s needs the keys %s', item.position, item.event_type, item.needed_keys),
        HINT = 'canon.event_types.data_schema says what each holds.';
    ELSIF (item.event_data - item.allowed_keys = '{}') IS NOT TRUE THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE008',
        MESSAGE = format(
          'event %s: event_data of %s has keys that %s: %s', item.position, item.event_type,
          CASE WHEN item.event_data ?| item.allowed_keys AND item.aggregate_version > 1 THEN 'it does not take' ELSE 'it does not know' END,
          (SELECT string_agg(k.key, ', ') FROM jsonb_object_keys(item.event_data - item.allowed_keys) AS k (key))
        ),
        HINT = format('It takes %s.', array_to_string(item.allowed_keys, ', '));
    ELSIF EXISTS (SELECT FROM jsonb_each_text(item.field_rules) AS f WHERE (item.event_data @@ f.value::jsonpath) IS NOT TRUE) THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE008',
        MESSAGE = format(
          'event %s: %s.%s is not what its schema says', item.position, item.event_type,
          (SELECT min(f.key) FROM jsonb_each_text(item.field_rules) AS f WHERE (item.event_data @@ f.value::jsonpath) IS NOT TRUE)
        ),
        HINT = 'canon.event_types.data_schema says what it may be.';
    ELSIF item.event_data @? '$.**{200}' THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE008',
        MESSAGE = format('event %s: event_data of %s is nested deeper than 200', item.position, item.event_type),
        HINT = 'Flatten it: readers could not read it.';
    ELSIF (item.attachment IS NOT NULL) <> (item.event_type = ANY ('{CHECKPOINT_SAVED,MEMORY_REMEMBERED,SECRET_SET,SECRET_REWRAPPED,DATA_KEY_CREATED,DATA_KEY_REWRAPPED}')) THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE008',
        MESSAGE = format(
          'event %s: %s %s', item.position, item.event_type,
          CASE WHEN item.attachment IS NULL THEN 'needs what was saved or sealed as its attachment' ELSE 'takes no attachment' END
        ),
        HINT = 'The state of a checkpoint, a sealed secret and a wrapped key are attached, and nothing else.';
    ELSIF item.causation_id IS NULL AND (item.aggregate_version > 1 OR NOT item.may_begin) THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE008',
        MESSAGE = format('event %s: causation_id: %s needs a cause', item.position, item.event_type),
        HINT = 'Only a signal or a run may begin without one.';
    ELSIF item.occurred_at NOT BETWEEN '0001-01-01 00:00:00+00' AND statement_timestamp() + interval '5 minutes' THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE008',
        MESSAGE = format('event %s: occurred_at: %s is before the year 1, or still to come', item.position, item.occurred_at),
        HINT = 'Say when it happened. The database''s clock counts.';
    ELSIF item.actor IS NULL OR item.source IS NULL THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE008',
        MESSAGE = format('event %s: %s: is missing', item.position, CASE WHEN item.actor IS NULL THEN 'actor' ELSE 'source' END),
        HINT = 'Every event says who did it, and through what it came.';
    ELSIF item.source IN ('outbox', 'operator', '') OR starts_with(item.actor, 'system:outbox-worker/') THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE012',
        MESSAGE = format('event %s: a service cannot write as %s from %s', item.position, item.actor, item.source),
        HINT = 'The sources outbox and operator, and the actors system:outbox-worker/…, belong to functions of the plane.';
    ELSIF item.is_repeated OR (item.is_from_this_transaction AND item.rival_id = item.id) THEN
      is_torn := true;
    ELSIF item.logged_id IS NOT NULL THEN
      IF NOT item.is_same THEN
        RAISE EXCEPTION USING
          ERRCODE = 'PE004',
          MESSAGE = format('event %s: id %s is in the log with other content', item.position, item.id),
          HINT = 'An event id names one event for ever; give a new event a new id.';
      END IF;
      known := known + 1;
    ELSIF item.is_second THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE001',
        MESSAGE = format(
          'event %s: version %s of %s %s stands twice in the batch',
          item.position, item.aggregate_version, item.aggregate_type, item.aggregate_id
        ),
        HINT = 'Number the events of one aggregate without gaps.';
    ELSIF item.rival_id IS NOT NULL THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE001',
        MESSAGE = format(
          '%s %s has a version %s already; %s was decided on an older state',
          item.aggregate_type, item.aggregate_id, item.aggregate_version, item.event_type
        ),
        HINT = 'Someone else changed it. Read it again and decide anew.';
    END IF;
  END LOOP;

  IF known = 0 AND NOT is_torn AND events <> '[]' AND NOT has_rival THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = 'an event would not be lawful as it is recorded',
      HINT = 'A step that has no step_index gets the next one of its run: it must be below 2147483648, and there must be room for it. First events have aggregate_version 1.';
  ELSIF known = 0 AND NOT is_torn AND events <> '[]' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'serialization_failure',
      MESSAGE = 'the same was written at the same moment',
      HINT = 'Repeat the transaction: it will find what is there and take it for its own.';
  ELSIF known < jsonb_array_length(events) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE004',
      MESSAGE = format('%s of %s events are in the log already', known, jsonb_array_length(events)),
      HINT = 'A batch is appended whole or not at all; give each event of a new batch a new id.';
  END IF;
  -- Under row level security an index is used for what cannot leak: an array of ids, but not a cast in the condition.
  ids := ARRAY(SELECT (i.event ->> 'id')::uuid FROM jsonb_array_elements(events) AS i (event));
  RETURN QUERY
    SELECT log.id, log.sequence_number, log.aggregate_id, false
    FROM orchestration_events AS log
    WHERE log.tenant_id = explain_missing.tenant_id
      AND log.id = ANY (ids)
    ORDER BY log.sequence_number;
END
$$;

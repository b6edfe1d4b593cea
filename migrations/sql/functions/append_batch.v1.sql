-- The way of large batches: what append_events does, with all events in one statement, and one statement a kind of aggregate. Smaller batches come here when
-- something is not as it should be, to hear what. Called by append_events, which has let the user in and holds the locks of ordering keys.
-- It is done as though nothing of it were known. What is not new, or not lawful, takes it back; then requests that are known are answered and the rest is done
-- again, or the first event that does not belong in is named.
CREATE FUNCTION persistence.append_batch(tenant_id uuid, events jsonb, attachments jsonb, has_ends boolean, event_bytes integer)
RETURNS TABLE (event_id uuid, sequence_number bigint, aggregate_id uuid, is_new boolean)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  has_effects boolean := events @? '$[*] ? (@.aggregate_type == "EFFECT")';
  lacks_indexes boolean := events @? '$[*] ? (@.aggregate_type == "STEP" && @.aggregate_version == 1 && !exists(@.event_data.step_index))';
  known jsonb := '[]';
  found jsonb;
  has_turns CONSTANT boolean := events @? '$[*] ? (
    @.aggregate_type == "RUN" && (exists(@.event_data.flow_version) || @.aggregate_version > 1)
    || @.aggregate_type == "SIGNAL" && exists(@.event_data.signal_key)
    || @.event_type == "EFFECT_CANCELLED"
  )';
  asked jsonb := events;  -- without what was known
  batch orchestration_events[];
  deltas aggregate_delta[];
  is_done boolean := false;
  first_number bigint;
  last_number bigint;
  violated text;
  done boolean;
BEGIN
  LOOP
    events := asked;
    IF lacks_indexes THEN
      events := with_step_indexes(append_batch.tenant_id, events);
    END IF;
    BEGIN
      IF has_ends THEN
        done := lock_ending(append_batch.tenant_id, events);
      END IF;
      WITH inserted AS (
        INSERT INTO orchestration_events AS log (
          tenant_id, id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
          correlation_id, causation_id, actor, source, occurred_at
        )
        SELECT
          append_batch.tenant_id, e.id, e.event_type, e.event_version, e.aggregate_type, e.aggregate_id, e.aggregate_version, e.event_data,
          e.correlation_id, e.causation_id, e.actor, e.source, coalesce(e.occurred_at, statement_timestamp())
        FROM (
{given_events}
        ) AS e
        WHERE (
{lawful_event}
        )
        ORDER BY e.position  -- sequence numbers follow the order of the batch, whatever the plan
        RETURNING log.*
      )
      SELECT array_agg(i::orchestration_events ORDER BY i.sequence_number) INTO batch FROM inserted AS i;
      IF cardinality(batch) IS DISTINCT FROM jsonb_array_length(events) THEN
        RAISE SQLSTATE 'PE099';  -- not all are lawful; it goes no further than this
      END IF;
      deltas := batch_deltas(batch);
      done := fold_deltas(deltas, attachments);
      is_done := true;
    EXCEPTION
      WHEN SQLSTATE 'PE099' THEN
        violated := NULL;
      WHEN unique_violation THEN
        GET STACKED DIAGNOSTICS violated = CONSTRAINT_NAME;
        IF violated NOT IN (
          'orchestration_events_pkey', 'orchestration_events_aggregate_version_key', 'outbox_events_pkey', 'outbox_events_idempotency_key'
        ) THEN
          RAISE;
        END IF;
    END;
    EXIT WHEN is_done OR NOT has_effects;
    found := known_effects(append_batch.tenant_id, asked);
    EXIT WHEN found = '[]';
    PERFORM refuse_repeated_ids(asked);
    known := known || found;
    asked := without_known(asked, found);
    EXIT WHEN asked = '[]';
  END LOOP;

  IF is_done THEN
    done := check_causes(batch);
    done := check_wholes(batch);
    IF has_effects THEN
      PERFORM queue_effects(deltas);
    END IF;
    IF has_ends THEN
      done := end_parts(batch, deltas);
    END IF;
    IF has_turns THEN
      done := queue_runs(deltas);
    END IF;
    first_number := batch[1].sequence_number;
    last_number := batch[cardinality(batch)].sequence_number;
{young_log}
    RETURN QUERY
      SELECT e.id, e.sequence_number, e.aggregate_id, true FROM unnest(batch) AS e;
  ELSE
    RETURN QUERY
      SELECT * FROM explain_missing(append_batch.tenant_id, asked, violated IS NOT NULL);
  END IF;
{known_answers}
END
$$;

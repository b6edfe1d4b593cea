-- The way of large batches: what append_events does, with all events in one statement, and one statement a kind of aggregate. Smaller batches come here when
-- something is not as it should be, to hear what. Called by append_events, which has let the user in and holds the locks that are needed.
CREATE FUNCTION persistence.append_batch(tenant_id uuid, events jsonb, attachments jsonb, has_ends boolean)
RETURNS TABLE (event_id uuid, sequence_number bigint, aggregate_id uuid, is_new boolean)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
  event_bytes integer;
  has_effects boolean := events @? '$[*] ? (@.aggregate_type == "EFFECT")';
  lacks_indexes boolean := events @? '$[*] ? (@.aggregate_type == "STEP" && @.aggregate_version == 1 && !exists(@.event_data.step_index))';
  known jsonb;
  asked jsonb;
  batch orchestration_events[];
  deltas aggregate_delta[];
  done boolean;
BEGIN
  SELECT l.event_bytes INTO event_bytes FROM canon.size_limits AS l WHERE l.is_only;
  IF has_effects THEN
    known := known_effects(append_batch.tenant_id, events);
    events := without_known(events, known);
  END IF;
  asked := events;
  IF lacks_indexes THEN
    events := with_step_indexes(append_batch.tenant_id, events);
  END IF;

  -- What does not belong in is left out, and explained below.
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
    ON CONFLICT DO NOTHING
    RETURNING log.*
  )
  SELECT array_agg(i::orchestration_events ORDER BY i.sequence_number) INTO batch FROM inserted AS i;

  IF cardinality(batch) = jsonb_array_length(events) THEN
    deltas := batch_deltas(batch);
    done := fold_deltas(deltas, attachments);
    done := check_causes(batch);
    done := check_wholes(batch);
    IF has_effects THEN
      PERFORM queue_effects(deltas);
    END IF;
    IF has_ends THEN
      done := end_parts(batch, deltas);
    END IF;
    done := learn_sizes(batch[1].sequence_number, batch[cardinality(batch)].sequence_number);
    RETURN QUERY
      SELECT e.id, e.sequence_number, e.aggregate_id, true FROM unnest(batch) AS e;
  ELSE
    RETURN QUERY
      SELECT * FROM explain_missing(append_batch.tenant_id, asked);
  END IF;
{known_answers}
END
$$;

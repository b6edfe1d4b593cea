-- The only way to change anything: appends a batch of events to a tenant's log and folds it into the runtime tables, all or nothing.
--
-- events: an array of objects with id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
--   correlation_id, causation_id, actor, source, occurred_at, and attachment (text; CHECKPOINT_SAVED only).
-- Returns one row an event. is_new is false for an event that is in the log already, and for the request of an effect whose
--   idempotency key is known: then aggregate_id names the effect that is there.
-- Errors: PE001 conflict, PE002 invalid transition, PE003 not found, PE004 idempotency mismatch, PE005 tenant denied, PE006 too large,
--   PE007 unknown event type, PE008 invalid event, PE009 signal received already, PE010 effect being delivered.
CREATE FUNCTION persistence.append_events(
  tenant_id uuid,
  user_id uuid,
  events jsonb,
  max_event_bytes integer DEFAULT 1048576,
  max_batch_events integer DEFAULT 10000,
  max_batch_bytes integer DEFAULT 33554432
) RETURNS TABLE (event_id uuid, sequence_number bigint, aggregate_id uuid, is_new boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  known jsonb := '[]';
  batch orchestration_events[];
  deltas aggregate_delta[];
  attachments jsonb;
BEGIN
  PERFORM enter_tenant(append_events.tenant_id, append_events.user_id);
  PERFORM check_batch_size(events, max_batch_events, max_batch_bytes);

  IF events @? '$[*] ? (@.event_type == "EFFECT_REQUESTED")' THEN
    known := known_effects(append_events.tenant_id, events);
    events := without_known(events, known);
  END IF;
  IF events @? '$[*] ? (@.aggregate_type == "STEP" && @.aggregate_version == 1 && !exists(@.event_data.step_index))' THEN
    events := with_step_indexes(append_events.tenant_id, events);
  END IF;
  IF events @? '$[*] ? (exists(@.attachment))' THEN
    attachments := checked_attachments(events);
  END IF;

  WITH inserted AS (
    INSERT INTO orchestration_events AS log (
      tenant_id, id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
      correlation_id, causation_id, actor, source, occurred_at
    )
    SELECT
      append_events.tenant_id, e.id, e.event_type, e.event_version, e.aggregate_type, e.aggregate_id, e.aggregate_version, e.event_data,
      e.correlation_id, e.causation_id, e.actor, e.source, coalesce(e.occurred_at, now())
    FROM jsonb_to_recordset(events) AS e (
      id uuid, event_type text, event_version smallint, aggregate_type text, aggregate_id uuid, aggregate_version integer,
      event_data jsonb, correlation_id uuid, causation_id uuid, actor text, source text, occurred_at timestamptz
    )
    JOIN canon.event_types AS t USING (event_type, event_version, aggregate_type)
    WHERE t.writer = 'service'
      AND pg_column_size(e.event_data) <= max_event_bytes
      AND e.event_data ?& CASE WHEN e.aggregate_version = 1 THEN t.creating_keys ELSE t.required_keys END
    ON CONFLICT DO NOTHING
    RETURNING log.*
  )
  SELECT array_agg(i::orchestration_events ORDER BY i.sequence_number) INTO batch FROM inserted AS i;

  IF coalesce(cardinality(batch), 0) = jsonb_array_length(events) THEN
    IF batch IS NOT NULL THEN
      deltas := fold_events(batch, attachments);
      IF EXISTS (SELECT FROM unnest(deltas) AS d WHERE d.aggregate_type = 'EFFECT') THEN
        PERFORM queue_effects(deltas);
      END IF;
    END IF;
    RETURN QUERY
      SELECT e.id, e.sequence_number, e.aggregate_id, true FROM unnest(batch) AS e;
  ELSE
    RETURN QUERY
      SELECT * FROM explain_missing(append_events.tenant_id, events, max_event_bytes);
  END IF;
  IF known <> '[]' THEN
    RETURN QUERY
      SELECT k.event_id, k.sequence_number, k.aggregate_id, false
      FROM jsonb_to_recordset(known) AS k (event_id uuid, sequence_number bigint, aggregate_id uuid);
  END IF;
END
$$;

-- The only way to change anything: appends a batch of events to a tenant's log and folds it into the runtime tables, all or nothing.
--
-- events: an array of objects with id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
--   correlation_id, causation_id, actor, source, occurred_at, and attachment (text; CHECKPOINT_SAVED only). How many and how large they may be is
--   said in canon.size_limits. proof: see enter_tenant.
-- Returns one row an event. is_new is false for an event that is in the log already, and for the request of an effect whose
--   idempotency key is known: then aggregate_id names the effect that is there.
-- Errors: PE001 conflict, PE002 invalid transition, PE003 not found, PE004 idempotency mismatch, PE005 tenant denied, PE006 too large,
--   PE007 unknown event type, PE008 invalid event, PE009 signal received already, PE010 effect being delivered, PE012 not for this writer.
--
-- Plans are generic: planning each statement anew would cost more than half of a small batch. They go by index and nested loop, and are
-- made anew while the log is young (learn_sizes).
CREATE FUNCTION persistence.append_events(tenant_id uuid, user_id uuid, events jsonb, proof text DEFAULT NULL)
RETURNS TABLE (event_id uuid, sequence_number bigint, aggregate_id uuid, is_new boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
  look record;
  known jsonb;
  asked jsonb;
  batch orchestration_events[];
  deltas aggregate_delta[];
  attachments jsonb;
  done boolean;
BEGIN
  SELECT
    set_config('persistence.tenant_id', append_events.tenant_id::text, true) AS entered_tenant,
    set_config('persistence.user_id', append_events.user_id::text, true) AS entered_user,
    l.event_bytes,
    jsonb_typeof(events) IS DISTINCT FROM 'array'
      OR jsonb_array_length(events) > l.batch_events
      OR pg_column_size(events) > l.batch_bytes AS is_no_batch,
    events @? '$[*] ? (@.aggregate_type == "EFFECT")' AS has_effects,
    events @? '$[*] ? (exists(@.event_data.ordering_key))' AS has_keys,
    events @? '$[*] ? (@.aggregate_type == "STEP" && @.aggregate_version == 1 && !exists(@.event_data.step_index))' AS lacks_indexes,
    events @? '$[*] ? (exists(@.attachment))' AS has_attachments,
    events @? '$[*] ? (@.event_type like_regex "^(RUN|STEP)_(COMPLETED|FAILED|CANCELLED|SKIPPED|RECORDED)$")' AS has_ends,
    EXISTS (SELECT FROM canon.context_keys) AS is_signed
  INTO look
  FROM canon.size_limits AS l
  WHERE l.is_only;
  IF look.is_no_batch OR look.has_effects OR look.lacks_indexes OR look.has_attachments OR look.has_ends OR look.is_signed THEN
    IF look.is_signed THEN
      PERFORM enter_tenant(append_events.tenant_id, append_events.user_id, proof);
    END IF;
    IF look.is_no_batch THEN
      PERFORM refuse_batch(events);
    END IF;
    IF look.has_effects THEN
      known := known_effects(append_events.tenant_id, events);
      events := without_known(events, known);
    END IF;
    IF look.has_keys THEN
      PERFORM lock_keys(array_agg(append_events.tenant_id), array_agg(e.event #>> '{event_data,ordering_key}'))
      FROM jsonb_array_elements(events) AS e (event)
      JOIN user_tenants AS ut ON ut.tenant_id = append_events.tenant_id AND ut.user_id = append_events.user_id;
    END IF;
    IF look.has_ends THEN
      done := lock_ending(append_events.tenant_id, append_events.user_id, events);
    END IF;
    asked := events;
    IF look.lacks_indexes THEN
      events := with_step_indexes(append_events.tenant_id, events);
    END IF;
    IF look.has_attachments THEN
      attachments := checked_attachments(events);
    END IF;
  END IF;

  -- Whatever does not belong in drops out of the joins, and is explained below (explain_missing says the same in the same order).
  WITH inserted AS (
    INSERT INTO orchestration_events AS log (
      tenant_id, id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
      correlation_id, causation_id, actor, source, occurred_at
    )
    SELECT
      ut.tenant_id, e.id, e.event_type, e.event_version, e.aggregate_type, e.aggregate_id, e.aggregate_version, e.event_data,
      e.correlation_id, e.causation_id, e.actor, e.source, coalesce(e.occurred_at, statement_timestamp())
    FROM user_tenants AS ut
    CROSS JOIN ROWS FROM (
      jsonb_to_recordset(events) AS (
        id uuid, event_type text, event_version smallint, aggregate_type text, aggregate_id uuid, aggregate_version integer,
        event_data jsonb, correlation_id uuid, causation_id uuid, actor text, source text, occurred_at timestamptz, attachment text
      )
    ) WITH ORDINALITY AS e (
      id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version,
      event_data, correlation_id, causation_id, actor, source, occurred_at, attachment, "position"
    )
    JOIN canon.event_types AS t USING (event_type, event_version, aggregate_type)
    WHERE ut.tenant_id = append_events.tenant_id
      AND ut.user_id = append_events.user_id
      AND t.writer = 'service'
      AND t.is_current
      AND pg_column_size(e.event_data) <= look.event_bytes
      AND e.event_data ?& CASE WHEN e.aggregate_version = 1 THEN t.creating_keys ELSE t.required_keys END
      AND e.event_data - CASE WHEN e.aggregate_version = 1 THEN t.known_keys ELSE t.later_keys END = '{}'
      AND e.event_data @@ t.data_rule
      AND NOT e.event_data @? '$.**{200}'  -- nested deeper than readers go
      AND (e.attachment IS NOT NULL) = (e.event_type = 'CHECKPOINT_SAVED')
      AND (e.causation_id IS NOT NULL OR (e.aggregate_version = 1 AND t.may_begin))
      AND (e.occurred_at IS NULL OR e.occurred_at BETWEEN '0001-01-01 00:00:00+00' AND statement_timestamp() + interval '5 minutes')
      AND e.source NOT IN ('outbox', 'operator', '')
      AND NOT starts_with(e.actor, 'system:outbox-worker/')
    ORDER BY e.position  -- sequence numbers follow the order of the batch, whatever the plan
    ON CONFLICT DO NOTHING
    RETURNING log.*
  )
  SELECT array_agg(i::orchestration_events ORDER BY i.sequence_number) INTO batch FROM inserted AS i;

  IF cardinality(batch) = jsonb_array_length(events) THEN
    -- (Functions are called by assignment: plpgsql evaluates that without a query.)
    deltas := batch_deltas(batch);
    done := fold_deltas(deltas, attachments);
    done := check_causes(batch);
    done := check_wholes(batch);
    IF look.has_effects THEN
      PERFORM queue_effects(deltas);
    END IF;
    IF look.has_ends THEN
      done := end_parts(batch, deltas);
    END IF;
    IF batch[1].sequence_number <= 102400  -- a young log: each time that it has doubled
      AND width_bucket(batch[1].sequence_number - 1, '{99,199,399,799,1599,3199,6399,12799,25599,51199,102399}'::bigint[])
        < width_bucket(batch[cardinality(batch)].sequence_number, '{99,199,399,799,1599,3199,6399,12799,25599,51199,102399}'::bigint[])
    THEN
      PERFORM learn_sizes();
    END IF;
    RETURN QUERY
      SELECT e.id, e.sequence_number, e.aggregate_id, true FROM unnest(batch) AS e;
  ELSE
    PERFORM enter_tenant(append_events.tenant_id, append_events.user_id);
    RETURN QUERY
      SELECT * FROM explain_missing(append_events.tenant_id, coalesce(asked, events));
  END IF;
  IF known <> '[]' THEN
    RETURN QUERY
      SELECT k.event_id, k.sequence_number, k.aggregate_id, false
      FROM jsonb_to_recordset(known) AS k (event_id uuid, sequence_number bigint, aggregate_id uuid);
  END IF;
END
$$;

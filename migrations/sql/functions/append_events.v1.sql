-- The only way to change anything: appends a batch of events to a tenant's log and folds it into the runtime tables, all or nothing.
--
-- events: an array of objects with id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
--   correlation_id, causation_id, actor, source, occurred_at, and attachment (text: a saved state, a sealed secret, a wrapped key). How many and how large they may be is
--   said in canon.size_limits. proof: see enter_tenant.
-- Returns one row an event. is_new is false for an event that is in the log already, and for the request of an effect whose
--   idempotency key is known: then aggregate_id names the effect that is there.
-- Errors: PE001 conflict, PE002 invalid transition, PE003 not found, PE004 idempotency mismatch, PE005 tenant denied, PE006 too large,
--   PE007 unknown event type, PE008 invalid event, PE009 signal received already, PE010 effect being delivered, PE012 not for this writer.
--
-- A few events go one after the other, each in statements of one row, which cost little to begin; more go together (append_batch). Both have the same parts:
-- what an event has to be is one text, and so is each fold.
--
-- Plans are generic: planning each statement anew would cost more than half of a small batch. They go by index and nested loop, and are
-- made anew while the log is young (learn_sizes). Functions are called by assignment where they can be: plpgsql evaluates that without a query.
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
  event_bytes integer;
  has_ends boolean;
  attachments jsonb;
  e record;
  d aggregate_delta;
  logged orchestration_events;
  previous orchestration_events;
  is_lawful boolean;
  has_record boolean;
  there uuid;
  its_correlation uuid;
  is_open boolean;
  known jsonb := '[]';
  causes jsonb := '{}';  -- by the request of an effect that was known already, what had caused it
  first_number bigint;
  last_number bigint;
  batch orchestration_events[];
  deltas aggregate_delta[];
  of_flows aggregate_delta[];  -- what the work list of flows is to know of
  done boolean;
BEGIN
  done := set_config('persistence.tenant_id', append_events.tenant_id::text, true) IS NULL
    OR set_config('persistence.user_id', append_events.user_id::text, true) IS NULL;
  SELECT
    l.event_bytes,
    l.one_by_one,
    jsonb_typeof(events) IS DISTINCT FROM 'array'
      OR jsonb_array_length(events) > l.batch_events
      OR pg_column_size(events) > l.batch_bytes AS is_no_batch,
    EXISTS (SELECT FROM canon.context_keys) AS is_signed
  INTO look
  FROM user_tenants AS ut
  CROSS JOIN canon.size_limits AS l
  WHERE ut.tenant_id = append_events.tenant_id
    AND ut.user_id = append_events.user_id
    AND l.is_only;
  IF NOT FOUND OR look.is_signed THEN
    PERFORM enter_tenant(append_events.tenant_id, append_events.user_id, proof);
  END IF;
  IF look.is_no_batch THEN
    PERFORM refuse_batch(events);
  END IF;
  event_bytes := look.event_bytes;
  IF events @? '$[*].event_data.ordering_key' THEN
    PERFORM lock_keys(array_agg(append_events.tenant_id), array_agg(k.event #>> '{event_data,ordering_key}'))
    FROM jsonb_array_elements(events) AS k (event);
  END IF;
  IF events @? '$[*].attachment' THEN
    attachments := checked_attachments(events);
  END IF;
  has_ends := events @? '$[*] ? ((@.aggregate_type == "RUN" || @.aggregate_type == "STEP") && @.event_type like_regex "{ending_types}")';
  IF jsonb_array_length(events) > look.one_by_one THEN
    RETURN QUERY SELECT * FROM append_batch(append_events.tenant_id, events, attachments, has_ends, event_bytes);
    RETURN;
  END IF;
  IF has_ends THEN
    done := lock_ending(append_events.tenant_id, events);
  END IF;

  FOR e IN
{given_events}
    ORDER BY "position"
  LOOP
    IF causes <> '{}' AND causes ? e.causation_id::text THEN
      e.causation_id := (causes ->> e.causation_id::text)::uuid;
    END IF;
    IF e.aggregate_type = 'STEP' AND e.aggregate_version = 1 AND NOT e.event_data ? 'step_index' THEN
      e.event_data := e.event_data || jsonb_build_object(
        'step_index', next_step_index(append_events.tenant_id, (e.event_data ->> 'run_id')::uuid, events)
      );
    END IF;
    e.occurred_at := coalesce(e.occurred_at, statement_timestamp());
    logged := NULL;
    has_record := false;
    is_lawful := (
{lawful_event}
    ) IS TRUE;
    IF is_lawful THEN
      d := (
        append_events.tenant_id, e.aggregate_type, e.aggregate_id, e.aggregate_version, NULL, e.aggregate_version, e.event_type, e.from_statuses,
        e.to_status, (e.counts IS NOT NULL)::integer, e.correlation_id, e.causation_id, e.actor, e.id, now(), now(),
        event_document(e.event_data, e.occurred_at, e.stamps, e.clears)
      );
    END IF;
    IF e.event_type = 'EFFECT_REQUESTED' THEN
      -- The record of an effect goes first: its unique key says whether the effect is known.
      has_record := is_lawful AND fold_outbox_one(d);
      IF NOT has_record THEN
        SELECT o.id
        INTO there
        FROM outbox_events AS o
        WHERE o.tenant_id = append_events.tenant_id
          AND o.idempotency_key = e.event_data #>> '{effect_spec,idempotency_key}';
        IF there <> e.aggregate_id THEN
          PERFORM refuse_repeated_ids(events);
          known := known || known_effects(append_events.tenant_id, jsonb_build_array(events -> (e.position - 1)::integer));
          causes := causes || jsonb_build_object(e.id, e.causation_id);
          CONTINUE;
        END IF;
      END IF;
    END IF;
    IF is_lawful THEN
      INSERT INTO orchestration_events AS log (
        tenant_id, id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
        correlation_id, causation_id, actor, source, occurred_at
      )
      VALUES (
        append_events.tenant_id, e.id, e.event_type, e.event_version, e.aggregate_type, e.aggregate_id, e.aggregate_version, e.event_data,
        e.correlation_id, e.causation_id, e.actor, e.source, e.occurred_at
      )
      ON CONFLICT DO NOTHING
      RETURNING log.* INTO logged;
    END IF;
    IF logged.id IS NULL THEN  -- not lawful, or in the log already
      IF has_record THEN  -- of an effect whose record was purged since
        DELETE FROM outbox_events AS o
        WHERE o.tenant_id = append_events.tenant_id
          AND o.id = e.aggregate_id;
      END IF;
      RETURN QUERY SELECT * FROM append_batch(append_events.tenant_id, events, attachments, has_ends, event_bytes);
      RETURN;
    END IF;

    d.first_number := logged.sequence_number;
    IF e.aggregate_version = 1 THEN
      IF e.aggregate_type <> 'SIGNAL' AND e.position < jsonb_array_length(events) THEN
        done := check_order(logged, events, e.position);
      END IF;
      IF e.aggregate_type = 'EFFECT' THEN
        done := fold_effects_one(d);
      ELSE
        done := fold_kind_one(e.aggregate_type, d, attachments);
      END IF;
    ELSIF NOT fold_kind_one(e.aggregate_type, d, attachments) THEN
      done := check_order(logged, events, e.position);
      PERFORM refuse_deltas(e.aggregate_type, ARRAY[d]);
    END IF;

    -- Cause and wholes are looked at briefly; what is not plainly right is left to the functions that say why.
    IF e.causation_id <> previous.id OR e.correlation_id <> previous.correlation_id OR previous.id IS NULL THEN
      IF e.causation_id IS NOT NULL THEN
        SELECT c.correlation_id
        INTO its_correlation
        FROM orchestration_events AS c
        WHERE c.tenant_id = append_events.tenant_id
          AND c.id = e.causation_id
          AND c.sequence_number < logged.sequence_number;
        IF its_correlation IS DISTINCT FROM e.correlation_id THEN
          done := check_causes(ARRAY[logged]);
        END IF;
      END IF;
    END IF;
    IF (
{needs_wholes}
    ) THEN
      is_open := false;
      IF e.aggregate_version = 1 AND e.aggregate_type <> 'RUN' AND NOT e.event_data ? 'step_id' THEN
        SELECT r.status IN ('PENDING', 'RUNNING', 'WAITING') AND r.correlation_id = e.correlation_id
        INTO is_open
        FROM runs AS r
        WHERE r.tenant_id = append_events.tenant_id
          AND r.id = (e.event_data ->> 'run_id')::uuid;
      END IF;
      IF is_open IS NOT TRUE THEN
        done := check_wholes(ARRAY[logged]);
      END IF;
    END IF;

    IF e.aggregate_type = 'EFFECT' THEN
      IF e.aggregate_version = 1 AND NOT e.event_data ? 'ordering_key' THEN
        done := queue_requests_one(d);
      ELSE
        PERFORM queue_effects(ARRAY[d]);
      END IF;
    END IF;

    IF (
      e.aggregate_type = 'RUN'
      AND (
        (e.aggregate_version = 1 AND e.event_data ? 'flow_version')
        OR (e.aggregate_version > 1 AND e.event_type IN ('RUN_COMPLETED', 'RUN_FAILED', 'RUN_CANCELLED', 'RUN_RETRIED'))
      )
    ) OR (e.aggregate_type = 'SIGNAL' AND e.event_data ? 'signal_key')
      OR e.event_type = 'EFFECT_CANCELLED' THEN
      of_flows := of_flows || d;
    END IF;

    previous := logged;
    first_number := coalesce(first_number, logged.sequence_number);
    last_number := logged.sequence_number;
    IF has_ends THEN
      batch := batch || logged;
      deltas := deltas || d;
    END IF;
    event_id := logged.id;
    sequence_number := logged.sequence_number;
    aggregate_id := logged.aggregate_id;
    is_new := true;
    RETURN NEXT;
  END LOOP;

  IF has_ends AND batch IS NOT NULL THEN
    done := end_parts(batch, deltas);
  END IF;
  IF of_flows IS NOT NULL THEN
    done := queue_runs(of_flows);
  END IF;
{young_log}
{known_answers}
END
$$;

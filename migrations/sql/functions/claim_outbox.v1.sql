-- Leases due entries to a worker, for each effect type up to its limit. What is wanted is shared among the tenants that have due work, by
-- their weights, so that none of them starves another; what some do not use goes to the rest. Of a tenant, what has the lower priority
-- number goes first, then what has been due longest. An attempt counts from here on: a handler that kills its process has used it up. When its lease has
-- run out, that is recorded by whoever claims the entry next.
--
-- lease_token: names this claim; settle_outbox and its kin ask for it.
-- lease: how long the entries are the worker's, by this database's clock.
-- is_suspect: whether the entry's destination failed of late. was_lost: whether the worker of the attempt before did not live to report back.
--
-- Entries whose destination rests are put off as they are met, at most some thousands in one claim; the next claim goes on with them.
CREATE FUNCTION persistence.claim_outbox(worker text, lease_token uuid, effect_types text[], limits integer[], lease interval)
RETURNS TABLE (
  tenant_id uuid, id uuid, effect_type text, attempts integer, idempotency_key text, payload jsonb, correlation_id uuid, causation_id uuid,
  requested_at timestamptz, ordering_key text, destination text, traceparent text, is_suspect boolean, was_lost boolean
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
  many_types CONSTANT integer := 8;
  are_limited boolean;
  some_fail boolean;
  marked_type text := '';
  marked integer[];
  i integer;
  done text;
  wanted integer;
  allowed integer;
  due outbox_share[];
  leased_tenants uuid[];
  leased_ids uuid[];
  leased_attempts integer[];
  lost_by text[];
  some_lost boolean;
  postponed uuid[];
  postponements integer := 0;
  kept_tenants uuid[];
BEGIN
  IF (lease > interval '0' AND lease <= interval '1 day') IS NOT TRUE THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('lease: %s is not between nothing and a day', lease),
      HINT = 'A lease can be extended as often as needed.';
  END IF;
  -- Nobody waits for the disk here: what a crash of the server takes back is a lease, and the entry is delivered again under the same key.
  done := set_config('synchronous_commit', 'off', true);
  SELECT EXISTS (SELECT FROM outbox_limits), EXISTS (SELECT FROM outbox_destinations) INTO are_limited, some_fail;
  IF cardinality(effect_types) > many_types THEN  -- only those that have marks, from one to the next in their index
    LOOP
      SELECT m.effect_type INTO marked_type FROM outbox_marks AS m WHERE m.effect_type > marked_type ORDER BY m.effect_type LIMIT 1;
      EXIT WHEN NOT FOUND;
      marked := marked || array_position(effect_types, marked_type);
    END LOOP;
  ELSE
    marked := (ARRAY[1, 2, 3, 4, 5, 6, 7, 8])[:cardinality(effect_types)];
  END IF;
  FOREACH i IN ARRAY coalesce(marked, '{}') LOOP
    CONTINUE WHEN i IS NULL;
    wanted := limits[i];
    kept_tenants := '{}';
    due := due_streams(effect_types[i], wanted);
    IF are_limited AND due IS NOT NULL THEN
      allowed := outbox_allowance(system_tenant_id(), effect_types[i]);
      wanted := least(wanted, allowed);
      due := limited_shares(effect_types[i], due, wanted, allowed IS NOT NULL);
    END IF;
    WHILE wanted > 0 AND due IS NOT NULL LOOP
      WITH picked AS MATERIALIZED (
        SELECT q.tenant_id, q.id, t.is_counted, q.lost_by
        FROM unnest(due) AS t
        CROSS JOIN LATERAL (
          SELECT q.tenant_id, q.id, q.leased_by AS lost_by
          FROM outbox_queue AS q
          WHERE q.effect_type = effect_types[i]
            AND q.tenant_id = t.tenant_id
            AND q.due_at >= t.swept_to
            AND q.due_at <= now()
            AND (q.leased_until IS NULL OR q.leased_until <= now())
          ORDER BY q.priority, q.due_at
          LIMIT t.share
          FOR UPDATE SKIP LOCKED
        ) AS q
        LIMIT wanted
      ),
      leased AS (
        UPDATE outbox_queue AS q
        SET
          leased_until = now() + claim_outbox.lease,
          attempts = q.attempts + 1,
          lease_token = claim_outbox.lease_token,
          leased_by = claim_outbox.worker,
          is_counted = p.is_counted,
          updated_at = now()
        FROM picked AS p
        WHERE q.tenant_id = p.tenant_id
          AND q.id = p.id
        RETURNING q.tenant_id, q.id, q.attempts, p.lost_by
      )
      SELECT array_agg(l.tenant_id), array_agg(l.id), array_agg(l.attempts), array_agg(l.lost_by), bool_or(l.lost_by IS NOT NULL)
      INTO leased_tenants, leased_ids, leased_attempts, lost_by, some_lost
      FROM leased AS l;

      EXIT WHEN leased_ids IS NULL;
      IF some_lost THEN
        PERFORM record_lost_attempts(worker, leased_tenants, leased_ids, leased_attempts, lost_by);
      END IF;
      IF some_fail THEN
        postponed := postpone_resting(leased_tenants, leased_ids);
        postponements := postponements + cardinality(postponed);
      END IF;
      RETURN QUERY
        SELECT
          o.tenant_id, o.id, o.event_type, l.attempts, o.idempotency_key, o.payload, o.correlation_id, o.last_event_id, o.created_at,
          o.ordering_key,
          o.destination,
          o.traceparent,
          some_fail AND EXISTS (SELECT FROM outbox_destinations AS d WHERE d.tenant_id = o.tenant_id AND d.destination = o.destination),
          coalesce(o.error_details ->> 'type' = 'WorkerLost', false)
        FROM unnest(leased_tenants, leased_ids, leased_attempts) AS l (tenant_id, id, attempts)
        CROSS JOIN LATERAL (
          SELECT o.*
          FROM outbox_events AS o
          WHERE o.tenant_id = l.tenant_id
            AND o.id = l.id
          LIMIT 1
        ) AS o
        WHERE NOT some_fail OR l.id <> ALL (postponed);
      wanted := wanted - cardinality(leased_ids) + coalesce(cardinality(postponed), 0);
      IF are_limited THEN
        kept_tenants := kept_tenants || ARRAY(
          SELECT l.tenant_id
          FROM unnest(leased_tenants, leased_ids) AS l (tenant_id, id)
          WHERE NOT some_fail OR l.id <> ALL (postponed)
        );
      END IF;
      EXIT WHEN wanted <= 0 OR postponements >= 5000;

      -- another round for those whose share was too small
      due := (
        SELECT array_agg(ROW(d.tenant_id, d.swept_to, least(wanted, d.cap - t.taken), d.cap - t.taken, d.is_counted)::outbox_share)
        FROM (
          SELECT l.tenant_id, count(*)::integer AS picked, (count(*) FILTER (WHERE NOT some_fail OR l.id <> ALL (postponed)))::integer AS taken
          FROM unnest(leased_tenants, leased_ids) AS l (tenant_id, id)
          GROUP BY l.tenant_id
        ) AS t
        JOIN unnest(due) AS d ON d.tenant_id = t.tenant_id
        WHERE t.picked >= d.share
          AND (d.cap IS NULL OR d.cap > t.taken)
      );
    END LOOP;
    IF cardinality(kept_tenants) > 0 THEN
      PERFORM spend_tokens(effect_types[i], kept_tenants);
    END IF;
  END LOOP;
END
$$;

-- Leases due entries to a worker, for each effect type up to its limit. The limit is shared among the tenants that have due work, so that
-- none of them starves another; what some do not use goes to the rest. An attempt counts from here on: a handler that kills its process has used it up.
--
-- lease_token: names this claim; settle_outbox and its kin ask for it.
-- lease: how long the entries are the worker's, by this database's clock.
CREATE FUNCTION persistence.claim_outbox(worker text, lease_token uuid, effect_types text[], limits integer[], lease interval)
RETURNS TABLE (
  tenant_id uuid, id uuid, effect_type text, attempts integer, idempotency_key text, payload jsonb, correlation_id uuid, causation_id uuid,
  requested_at timestamptz
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
  due uuid[];
  share integer;
  wanted integer;
  leased_ids uuid[];
  leased_tenants uuid[];
  leased_attempts integer[];
BEGIN
  FOR i IN 1 .. cardinality(effect_types) LOOP
    wanted := limits[i];
    due := due_tenants(effect_types[i], wanted);
    share := CASE WHEN cardinality(due) > 0 THEN ceil(wanted::numeric / cardinality(due)) END;
    WHILE wanted > 0 AND cardinality(due) > 0 LOOP
      WITH picked AS MATERIALIZED (
        SELECT q.tenant_id, q.id
        FROM unnest(due) AS t (tenant_id)
        CROSS JOIN LATERAL (
          SELECT q.tenant_id, q.id
          FROM outbox_queue AS q
          WHERE q.effect_type = effect_types[i]
            AND q.tenant_id = t.tenant_id
            AND q.due_at <= now()
          ORDER BY q.due_at
          LIMIT share
          FOR UPDATE SKIP LOCKED
        ) AS q
        LIMIT wanted
      ),
      leased AS (
        UPDATE outbox_queue AS q
        SET
          due_at = now() + claim_outbox.lease,
          attempts = q.attempts + 1,
          lease_token = claim_outbox.lease_token,
          leased_by = claim_outbox.worker,
          updated_at = now()
        FROM picked AS p
        WHERE q.tenant_id = p.tenant_id
          AND q.id = p.id
        RETURNING q.tenant_id, q.id, q.attempts
      )
      SELECT array_agg(l.tenant_id), array_agg(l.id), array_agg(l.attempts)
      INTO leased_tenants, leased_ids, leased_attempts
      FROM leased AS l;

      EXIT WHEN leased_ids IS NULL;
      RETURN QUERY
        SELECT
          o.tenant_id, o.id, o.event_type, l.attempts, o.idempotency_key, o.payload, o.correlation_id, o.last_event_id, o.created_at
        FROM unnest(leased_tenants, leased_ids, leased_attempts) AS l (tenant_id, id, attempts)
        CROSS JOIN LATERAL (
          SELECT o.*
          FROM outbox_events AS o
          WHERE o.tenant_id = l.tenant_id
            AND o.id = l.id
          LIMIT 1
        ) AS o;
      wanted := wanted - cardinality(leased_ids);
      EXIT WHEN cardinality(due) = 1;
      -- a second round for those whose share was too small
      due := ARRAY(SELECT t.tenant_id FROM unnest(leased_tenants) AS t (tenant_id) GROUP BY t.tenant_id HAVING count(*) >= share);
      share := wanted;
    END LOOP;
  END LOOP;
END
$$;

-- Leases runs of flows that are due to an executor. What is wanted is shared among the tenants that have due runs of a flow, by their weights, so that none of
-- them starves another; what some do not use goes to the rest. Of a tenant, what has the lower priority number goes first, then what has been due longest.
--
-- flows, flow_versions: what the executor has, side by side. lease_token: names this claim; append_turns and its kin ask for it.
-- lease: how long the runs are the executor's, by this database's clock.
-- has_steps: whether something was done in it already; a fork begins so. lost_by: the executor that had the run before, and did not live to report back.
CREATE FUNCTION persistence.claim_runs(executor text, lease_token uuid, flows text[], flow_versions integer[], wanted integer, lease interval)
RETURNS TABLE (
  tenant_id uuid, id uuid, run_type text, flow_version integer, status text, version integer, correlation_id uuid, last_event_id uuid,
  parent_run_id uuid, flow_key text, input_data jsonb, retry_count integer, deadline timestamptz, created_at timestamptz,
  attempts integer, wakes integer, has_steps boolean, lost_by text
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
  most_tenants CONSTANT integer := 200;
  first_flow CONSTANT integer := floor(random() * cardinality(flows));
  beginning CONSTANT uuid := gen_random_uuid();
  are_limited CONSTANT boolean := EXISTS (SELECT FROM outbox_limits AS l WHERE starts_with(l.effect_type, 'flow:'));
  i integer;
  tenant uuid;
  has_wrapped boolean;
  tenants uuid[];
  shares integer[];
  caps integer[];
  allowed integer;
  share integer;
  round integer;
  leased_tenants uuid[];
  leased_ids uuid[];
BEGIN
  IF (lease > interval '0' AND lease <= interval '1 day') IS NOT TRUE THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('lease: %s is not between nothing and a day', lease),
      HINT = 'A lease can be extended as often as needed.';
  END IF;
  PERFORM set_config('synchronous_commit', 'off', true);  -- what a crash of the server takes back is a lease
  FOR n IN 1 .. cardinality(flows) LOOP
    EXIT WHEN wanted <= 0;
    i := 1 + (first_flow + n) % cardinality(flows);
    allowed := wanted;
    IF are_limited THEN
      allowed := least(wanted, run_allowance(system_tenant_id(), flows[i]));
    END IF;
    CONTINUE WHEN allowed <= 0;

    -- Tenants with something due, from a random place on and once round.
    tenants := '{}';
    tenant := beginning;
    has_wrapped := false;
    LOOP
      tenant := (
        SELECT q.tenant_id
        FROM run_queue AS q
        WHERE q.flow = flows[i]
          AND q.flow_version = flow_versions[i]
          AND q.held_by IS NULL
          AND q.tenant_id > tenant
          AND q.due_at <= now()
          AND (q.leased_until IS NULL OR q.leased_until <= now())
        ORDER BY q.tenant_id
        LIMIT 1
      );
      IF tenant IS NULL AND NOT has_wrapped THEN
        has_wrapped := true;
        tenant := '00000000-0000-0000-0000-000000000000';
        CONTINUE;
      END IF;
      EXIT WHEN tenant IS NULL OR (has_wrapped AND tenant > beginning);
      tenants := tenants || tenant;
      EXIT WHEN cardinality(tenants) = most_tenants;
    END LOOP;
    CONTINUE WHEN tenants = '{}';

    SELECT array_agg(w.tenant_id), array_agg(ceil(allowed * w.weight::numeric / w.total)::integer), array_agg(w.cap)
    INTO tenants, shares, caps
    FROM (
      SELECT
        g.tenant_id,
        coalesce(l.weight, 1) AS weight,
        sum(coalesce(l.weight, 1)) OVER () AS total,
        CASE WHEN are_limited THEN run_allowance(g.tenant_id, flows[i]) END AS cap
      FROM unnest(tenants) AS g (tenant_id)
      LEFT JOIN outbox_limits AS l ON are_limited AND l.tenant_id = g.tenant_id AND l.effect_type = 'flow:' || flows[i]
    ) AS w;

    leased_tenants := '{}';
    leased_ids := '{}';
    FOR round IN 1 .. 2 LOOP  -- the second is for what some did not use
      FOR k IN 1 .. cardinality(tenants) LOOP
        share := CASE round WHEN 1 THEN shares[k] ELSE allowed END;
        share := least(share, allowed, caps[k]);
        CONTINUE WHEN share <= 0;
        FOR tenant_id, id, attempts, wakes, lost_by IN
          WITH picked AS MATERIALIZED (
            SELECT q.tenant_id, q.id, q.leased_by
            FROM run_queue AS q
            WHERE q.flow = flows[i]
              AND q.flow_version = flow_versions[i]
              AND q.tenant_id = tenants[k]
              AND q.held_by IS NULL
              AND q.due_at <= now()
              AND (q.leased_until IS NULL OR q.leased_until <= now())
            ORDER BY q.priority, q.due_at
            LIMIT share
            FOR UPDATE SKIP LOCKED
          )
          UPDATE run_queue AS q
          SET
            leased_until = now() + claim_runs.lease,
            lease_token = claim_runs.lease_token,
            leased_by = claim_runs.executor,
            attempts = q.attempts + 1,
            updated_at = now()
          FROM picked AS p
          WHERE q.tenant_id = p.tenant_id
            AND q.id = p.id
          RETURNING q.tenant_id, q.id, q.attempts, q.wakes, p.leased_by
        LOOP
          allowed := allowed - 1;
          wanted := wanted - 1;
          caps[k] := caps[k] - 1;
          leased_tenants := leased_tenants || tenant_id;
          SELECT
            r.run_type, r.flow_version, r.status, r.version, r.correlation_id, r.last_event_id, r.parent_run_id, r.flow_key, r.input_data, r.retry_count,
            r.deadline, r.created_at, EXISTS (SELECT FROM steps AS s WHERE s.tenant_id = r.tenant_id AND s.run_id = r.id)
          INTO
            run_type, flow_version, status, version, correlation_id, last_event_id, parent_run_id, flow_key, input_data, retry_count, deadline, created_at,
            has_steps
          FROM runs AS r
          WHERE r.tenant_id = claim_runs.tenant_id
            AND r.id = claim_runs.id;
          RETURN NEXT;
        END LOOP;
      END LOOP;
      EXIT WHEN allowed <= 0;
    END LOOP;
    IF are_limited AND cardinality(leased_tenants) > 0 THEN
      PERFORM spend_tokens('flow:' || flows[i], leased_tenants);
    END IF;
  END LOOP;
END
$$;

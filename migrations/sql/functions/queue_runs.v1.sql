-- Keeps the work list of flows in step with what a batch did: runs that begin are listed, those that end are not, those that are retried are again; and
-- wakes those that have a reason to go on: a child that ended, an effect that was cancelled, a signal that they wait for.
-- A run that the caller itself has under lease stays listed: append_turns says what becomes of it.
CREATE FUNCTION persistence.queue_runs(deltas persistence.aggregate_delta[]) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  d aggregate_delta;
  tenant uuid;
  some_begin boolean := false;
  ended uuid[];
  woken uuid[];
  parents uuid[];
  effect_ids uuid[];
  key_tenants uuid[];
  keys text[];
  own CONSTANT text := coalesce(current_setting('persistence.leases', true), '');
BEGIN
  FOREACH d IN ARRAY deltas LOOP
    tenant := d.tenant_id;
    IF d.aggregate_type = 'RUN' THEN
      IF d.first_version = 1 THEN
        some_begin := some_begin OR (d.doc ? 'flow_version' AND d.status IN ('PENDING', 'RUNNING'));
      ELSIF d.status IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN
        ended := ended || d.id;
      ELSIF d.first_event_type = 'RUN_RETRIED' THEN
        woken := woken || d.id;
      END IF;
    ELSIF d.aggregate_type = 'EFFECT' THEN
      IF d.first_version > 1 AND d.status IN ('CANCELLED', 'DISCARDED') THEN
        effect_ids := effect_ids || d.id;
      END IF;
    ELSIF d.aggregate_type = 'SIGNAL' AND d.first_version = 1 AND d.doc ? 'signal_key' THEN
      PERFORM pg_advisory_xact_lock(signal_lock(tenant, d.doc ->> 'signal_type', d.doc ->> 'signal_key'));
      woken := woken || ARRAY(
        SELECT s.run_id
        FROM steps AS s
        WHERE s.tenant_id = tenant
          AND s.signal_type = d.doc ->> 'signal_type'
          AND s.signal_key = d.doc ->> 'signal_key'
          AND s.status = 'WAITING'
      );
      IF d.doc ->> 'signal_type' = 'flow.cancel' AND pg_input_is_valid(d.doc ->> 'signal_key', 'uuid') THEN
        woken := woken || (d.doc ->> 'signal_key')::uuid;
      END IF;
    END IF;
  END LOOP;

  IF some_begin THEN
    INSERT INTO run_queue (tenant_id, id, flow, flow_version, due_at, priority, ordering_key, position, held_by)
    SELECT
      b.tenant_id, b.id, b.doc ->> 'run_type', (b.doc ->> 'flow_version')::integer,
      CASE WHEN b.doc ? 'ordering_key' THEN 'infinity' ELSE greatest((b.doc ->> 'starts_at')::timestamptz, statement_timestamp()) END,
      coalesce((b.doc ->> 'priority')::smallint, 0), b.doc ->> 'ordering_key',
      CASE WHEN b.doc ? 'ordering_key' THEN b.first_number END,
      CASE WHEN b.doc ? 'ordering_key' THEN 'KEY' END
    FROM unnest(deltas) AS b
    WHERE b.aggregate_type = 'RUN'
      AND b.first_version = 1
      AND b.doc ? 'flow_version'
      AND b.status IN ('PENDING', 'RUNNING');
    SELECT array_agg(b.tenant_id), array_agg(b.doc ->> 'ordering_key')
    INTO key_tenants, keys
    FROM unnest(deltas) AS b
    WHERE b.aggregate_type = 'RUN'
      AND b.first_version = 1
      AND b.doc ?& '{flow_version,ordering_key}';
    IF keys IS NOT NULL THEN
      PERFORM open_runs(key_tenants, keys);
    END IF;
  END IF;

  IF ended IS NOT NULL THEN
    SELECT
      array_agg(r.parent_run_id) FILTER (WHERE r.parent_run_id IS NOT NULL),
      array_agg(r.tenant_id) FILTER (WHERE r.ordering_key IS NOT NULL),
      array_agg(r.ordering_key) FILTER (WHERE r.ordering_key IS NOT NULL)
    INTO parents, key_tenants, keys
    FROM runs AS r
    WHERE r.tenant_id = tenant
      AND r.id = ANY (ended)
      AND r.flow_version IS NOT NULL;
    IF keys IS NOT NULL THEN
      PERFORM lock_keys(key_tenants, keys);
    END IF;
    DELETE FROM run_queue AS q
    WHERE q.tenant_id = tenant
      AND q.id = ANY (ended)
      AND (q.lease_token IS NULL OR strpos(own, q.lease_token::text) = 0);
    IF keys IS NOT NULL THEN
      PERFORM open_runs(key_tenants, keys);
    END IF;
    woken := woken || parents;
  END IF;

  IF effect_ids IS NOT NULL THEN
    woken := woken || ARRAY(
      SELECT e.run_id
      FROM effects AS e
      WHERE e.tenant_id = tenant
        AND e.id = ANY (effect_ids)
        AND e.is_awaited
    );
  END IF;
  IF cardinality(woken) > 0 THEN
    PERFORM wake_runs(array_fill(tenant, ARRAY[cardinality(woken)]), woken);
  END IF;
  RETURN true;
END
$$;

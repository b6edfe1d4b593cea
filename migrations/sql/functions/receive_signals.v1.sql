-- Takes signals in, each (source_channel, source_id) once. A signal that is known already is answered with what is there; the same source
-- with another type or payload is refused.
--
-- signals: an array of objects with id, event_id, source_channel, source_id, signal_type, payload, correlation_id, actor, source and,
--   optionally, signal_key, occurred_at and attributes. proof: see enter_tenant.
-- Returns one row a signal, in the order given. is_new: whether the signal that is there is this very one, by its id.
-- Errors: as append_events.
--
-- LATERAL with LIMIT asks the index once a signal, also by a plan that was made while the tables were empty.
CREATE FUNCTION persistence.receive_signals(tenant_id uuid, user_id uuid, signals jsonb, proof text DEFAULT NULL) RETURNS TABLE (
  position_in_batch bigint, id uuid, correlation_id uuid, status text, version integer, last_event_id uuid, received_at timestamptz, is_new boolean
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
  fresh jsonb;
  channel text;
  name text;
  is_other boolean;
BEGIN
  PERFORM enter_tenant(receive_signals.tenant_id, receive_signals.user_id, proof);
  PERFORM refuse_batch(signals);
  LOOP
    SELECT jsonb_agg(
      jsonb_build_object(
        'id', f.event_id,
        'event_type', 'SIGNAL_RECEIVED',
        'event_version', 1,
        'aggregate_type', 'SIGNAL',
        'aggregate_id', f.id,
        'aggregate_version', 1,
        'event_data', jsonb_strip_nulls(jsonb_build_object(
          'source_channel', f.source_channel, 'source_id', f.source_id, 'signal_type', f.signal_type, 'signal_key', f.signal_key
        )) || jsonb_build_object('payload', f.payload)
          || CASE WHEN f.attributes IS NULL THEN '{}' ELSE jsonb_build_object('attributes', f.attributes) END,
        'correlation_id', f.correlation_id,
        'actor', f.actor,
        'source', f.source,
        'occurred_at', f.occurred_at
      )
      ORDER BY f.position
    )
    INTO fresh
    FROM (
      SELECT DISTINCT ON (g.source_channel, g.source_id) g.*
      FROM given_signals(signals) AS g
      ORDER BY g.source_channel, g.source_id, g.position
    ) AS f
    LEFT JOIN LATERAL (
      SELECT s.id
      FROM signals AS s
      WHERE s.tenant_id = receive_signals.tenant_id
        AND s.source_channel = f.source_channel
        AND s.source_id = f.source_id
      LIMIT 1
    ) AS s ON true
    WHERE s.id IS NULL;
    EXIT WHEN fresh IS NULL;
    BEGIN
      PERFORM append_events(receive_signals.tenant_id, receive_signals.user_id, fresh);
      EXIT;
    EXCEPTION WHEN SQLSTATE 'PE009' THEN
      NULL;  -- somebody else received one of them meanwhile: look again
    END;
  END LOOP;

  FOR position_in_batch, id, correlation_id, status, version, last_event_id, received_at, is_new, channel, name, is_other IN
    SELECT
      g.position, s.id, s.correlation_id, s.status, s.version, s.last_event_id, s.received_at, s.id IS NOT DISTINCT FROM g.id,
      g.source_channel, g.source_id,
      s.signal_type <> g.signal_type OR s.signal_key IS DISTINCT FROM g.signal_key OR s.payload IS DISTINCT FROM nullif(g.payload, 'null')
    FROM given_signals(signals) AS g
    CROSS JOIN LATERAL (
      SELECT s.*
      FROM signals AS s
      WHERE s.tenant_id = receive_signals.tenant_id
        AND s.source_channel = g.source_channel
        AND s.source_id = g.source_id
      LIMIT 1
    ) AS s
    ORDER BY g.position
  LOOP
    IF is_other THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE004',
        MESSAGE = format('signal (%s, %s) was received as %s with another type or payload', channel, name, id),
        HINT = 'A source_id names one delivery for ever; a changed delivery needs its own.';
    END IF;
    RETURN NEXT;
  END LOOP;
END
$$;

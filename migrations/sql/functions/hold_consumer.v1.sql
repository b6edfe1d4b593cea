-- Gives a consumer to a holder, who alone moves him from now on; one that is not there is added, at this position, and that is recorded. Returns him.
-- Errors: PE008 for one that follows another channel, and for a position that the log has not come to.
CREATE FUNCTION persistence.hold_consumer(
  tenant_id uuid, user_id uuid, name text, channel text, holder uuid, epoch integer, transaction_id text, sequence_number bigint, actor text, proof text DEFAULT NULL
) RETURNS SETOF persistence.consumers
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  held consumers;
BEGIN
  PERFORM enter_tenant(hold_consumer.tenant_id, hold_consumer.user_id, hold_consumer.proof);
  LOOP
    UPDATE consumers AS c
    SET holder = hold_consumer.holder, updated_at = now()
    WHERE c.tenant_id = hold_consumer.tenant_id
      AND c.name = hold_consumer.name
    RETURNING c.* INTO held;
    IF held.id IS NOT NULL THEN
      IF held.channel <> hold_consumer.channel THEN
        RAISE EXCEPTION USING
          ERRCODE = 'PE008',
          MESSAGE = format('channel: the consumer %s follows %s, not %s', held.name, held.channel, hold_consumer.channel),
          HINT = 'Take another name, or remove that consumer first.';
      END IF;
      RETURN NEXT held;
      RETURN;
    END IF;
    IF hold_consumer.epoch > log_epoch()
      OR (hold_consumer.epoch = log_epoch() AND hold_consumer.transaction_id::xid8 >= pg_snapshot_xmax(pg_current_snapshot()))
    THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE008',
        MESSAGE = format('start: the log has not come to %s-%s-%s', hold_consumer.epoch, hold_consumer.transaction_id, hold_consumer.sequence_number),
        HINT = 'Begin at a position that was told.';
    END IF;
    PERFORM pg_advisory_xact_lock(plane_lock(hold_consumer.tenant_id::text));
    INSERT INTO consumers AS c (tenant_id, name, channel, holder, epoch, transaction_id, sequence_number, actor)
    VALUES (
      hold_consumer.tenant_id, hold_consumer.name, hold_consumer.channel, hold_consumer.holder, hold_consumer.epoch,
      hold_consumer.transaction_id::xid8, hold_consumer.sequence_number, hold_consumer.actor
    )
    ON CONFLICT DO NOTHING
    RETURNING c.* INTO held;
    IF held.id IS NOT NULL THEN
      PERFORM append_tenant_event(
        held.tenant_id, 'TENANT_CONSUMER_ADDED',
        jsonb_build_object('consumer_id', held.id, 'name', held.name, 'channel', held.channel),
        held.actor, 'streams'
      );
      RETURN NEXT held;
      RETURN;
    END IF;
  END LOOP;
END
$$;

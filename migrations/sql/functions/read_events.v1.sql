-- The next events of a tenant's log after a position, in an order that skips nothing: sequence numbers are taken before commit, so events
-- come by (transaction_id, sequence_number), and only from transactions older than every one still open. Within the epochs before the
-- present one, where all have committed and transaction ids mean nothing any more, they come by sequence number alone.
CREATE FUNCTION persistence.read_events(
  tenant_id uuid, user_id uuid, after_epoch integer, after_transaction xid8, after_sequence bigint, most integer
) RETURNS TABLE (epoch integer, event persistence.orchestration_events)
LANGUAGE plpgsql
SET search_path = persistence, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  present canon.log_epochs;
  delivered integer := 0;
BEGIN
  PERFORM enter_tenant(read_events.tenant_id, read_events.user_id);
  present.epoch := log_epoch();
  SELECT e.* INTO present FROM canon.log_epochs AS e WHERE e.epoch = present.epoch;

  IF after_epoch < present.epoch AND coalesce(after_sequence, 0) + 1 < present.first_sequence_number THEN
    RETURN QUERY
      SELECT after_epoch, log
      FROM orchestration_events AS log
      WHERE log.tenant_id = read_events.tenant_id
        AND log.sequence_number > coalesce(after_sequence, 0)
        AND log.sequence_number < present.first_sequence_number
      ORDER BY log.sequence_number
      LIMIT most;
    GET DIAGNOSTICS delivered = ROW_COUNT;
  END IF;
  IF after_epoch < present.epoch THEN
    after_transaction := '0';
    after_sequence := 0;
  END IF;

  RETURN QUERY
    SELECT present.epoch, log
    FROM orchestration_events AS log
    WHERE log.tenant_id = read_events.tenant_id
      AND (log.transaction_id, log.sequence_number) > (coalesce(after_transaction, '0'), coalesce(after_sequence, 0))
      AND log.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
      AND log.sequence_number >= present.first_sequence_number
    ORDER BY log.transaction_id, log.sequence_number
    LIMIT most - delivered;
END
$$;

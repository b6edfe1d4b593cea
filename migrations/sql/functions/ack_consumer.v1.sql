-- Moves a consumer on; never back. Returns false where somebody else holds him by now.
-- Errors: PE003 for one that is not there; PE008 for a position that the log has not come to.
CREATE FUNCTION persistence.ack_consumer(
  tenant_id uuid, user_id uuid, name text, holder uuid, epoch integer, transaction_id text, sequence_number bigint, proof text DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  held consumers;
  given CONSTANT xid8 := ack_consumer.transaction_id::xid8;
  present CONSTANT integer := log_epoch();
BEGIN
  PERFORM enter_tenant(ack_consumer.tenant_id, ack_consumer.user_id, ack_consumer.proof);
  IF ack_consumer.epoch > present OR (ack_consumer.epoch = present AND given >= pg_snapshot_xmax(pg_current_snapshot())) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('position: the log has not come to %s-%s-%s', ack_consumer.epoch, given, ack_consumer.sequence_number),
      HINT = 'Acknowledge a position that was told.';
  END IF;
  SELECT c.* INTO held
  FROM consumers AS c
  WHERE c.tenant_id = ack_consumer.tenant_id
    AND c.name = ack_consumer.name
  FOR NO KEY UPDATE;
  IF held.id IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE003',
      MESSAGE = format('there is no consumer %s in this tenant', ack_consumer.name),
      HINT = 'Subscribe with its name to add it.';
  ELSIF held.holder <> ack_consumer.holder THEN
    RETURN false;
  END IF;
  UPDATE consumers AS c
  SET epoch = ack_consumer.epoch, transaction_id = given, sequence_number = ack_consumer.sequence_number, updated_at = now()
  WHERE c.tenant_id = held.tenant_id
    AND c.id = held.id
    AND (c.epoch, c.transaction_id, c.sequence_number) < (ack_consumer.epoch, given, ack_consumer.sequence_number);
  RETURN true;
END
$$;

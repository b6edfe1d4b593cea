-- Records what came of trying a backup, in the log of the system tenant. The same id again records nothing.
-- event_type: BACKUP_VERIFIED or BACKUP_REFUSED; event_data: see canon.event_types.
-- Granted to nobody: an administrator calls it as persistence_system.
CREATE FUNCTION persistence.record_backup_verification(id uuid, event_type text, event_data jsonb, actor text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  batch orchestration_events[];
BEGIN
  IF NOT EXISTS (
    SELECT FROM canon.event_types AS t
    WHERE t.event_type = record_backup_verification.event_type
      AND t.aggregate_type = 'BACKUP_VERIFICATION'
      AND t.is_current
  ) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('%s is no event of a backup verification', event_type),
      HINT = 'BACKUP_VERIFIED or BACKUP_REFUSED.';
  END IF;
  PERFORM check_event_data(record_backup_verification.event_type, record_backup_verification.event_data);
  PERFORM check_operator(record_backup_verification.actor);
  WITH inserted AS (
    INSERT INTO orchestration_events AS log (
      tenant_id, id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
      correlation_id, actor, source, occurred_at
    )
    SELECT
      system_tenant_id(), new_id(), t.event_type, t.event_version, t.aggregate_type, record_backup_verification.id, 1,
      record_backup_verification.event_data, record_backup_verification.id, record_backup_verification.actor, 'operator', clock_timestamp()
    FROM canon.event_types AS t
    WHERE t.event_type = record_backup_verification.event_type
      AND t.is_current
    ON CONFLICT DO NOTHING
    RETURNING log.*
  )
  SELECT array_agg(i::orchestration_events) INTO batch FROM inserted AS i;
  IF batch IS NULL THEN
    RETURN false;
  END IF;
  PERFORM fold_events(batch);
  RETURN true;
END
$$;

-- Lets an operator requeue by plain SQL, as the debugging procedure has it:
--   UPDATE outbox_events SET status = 'PENDING', retry_count = 0, next_retry_at = NULL WHERE id = …
-- The update becomes the event EFFECT_REQUEUED, in the same transaction. Any other direct update is refused.
CREATE FUNCTION persistence.requeue_by_update() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
DECLARE
  batch orchestration_events[];
BEGIN
  IF OLD.status <> 'DEAD_LETTER' OR NEW.status <> 'PENDING' OR NEW.retry_count <> 0 OR NEW.next_retry_at IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE002',
      MESSAGE = format('outbox entry %s cannot be changed from %s to %s by hand', OLD.id, OLD.status, NEW.status),
      HINT = 'Only a dead letter can be requeued: SET status = ''PENDING'', retry_count = 0, next_retry_at = NULL.';
  END IF;

  WITH inserted AS (
    INSERT INTO orchestration_events AS log (
      tenant_id, id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data,
      correlation_id, causation_id, actor, source, occurred_at
    )
    VALUES (
      OLD.tenant_id, new_id(), 'EFFECT_REQUEUED', 1, 'EFFECT', OLD.id, OLD.version + 1, '{"retry_count": 0}',
      OLD.correlation_id, OLD.last_event_id, coalesce('user:' || current_user_id(), 'system:' || session_user), 'operator', clock_timestamp()
    )
    RETURNING log.*
  )
  SELECT array_agg(i::orchestration_events) INTO batch FROM inserted AS i;
  PERFORM fold_effects(batch_deltas(batch), 0, 1);
  PERFORM lock_keys(ARRAY[OLD.tenant_id], ARRAY[OLD.ordering_key]);
  DELETE FROM outbox_queue AS q
  WHERE q.tenant_id = OLD.tenant_id
    AND q.id = OLD.id;
  PERFORM queue_again(ARRAY[OLD.tenant_id], ARRAY[OLD.id]);
  UPDATE outbox_queue AS q
  SET attempts = 0, due_at = CASE WHEN q.held_by IS NULL THEN now() ELSE 'infinity' END
  WHERE q.tenant_id = OLD.tenant_id
    AND q.id = OLD.id;
  PERFORM open_keys(ARRAY[OLD.tenant_id], ARRAY[OLD.ordering_key]);

  NEW.blocks_key := NULL;
  NEW.version := OLD.version + 1;
  NEW.last_event_id := batch[1].id;
  NEW.updated_at := greatest(OLD.updated_at, batch[1].created_at);
  RETURN NEW;
END
$$;

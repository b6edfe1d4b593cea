-- The fold always changes last_event_id; an update that does not is a person's.
CREATE TRIGGER requeue_by_update
  BEFORE UPDATE ON persistence.outbox_events
  FOR EACH ROW
  WHEN (OLD.last_event_id = NEW.last_event_id)
  EXECUTE FUNCTION persistence.requeue_by_update();

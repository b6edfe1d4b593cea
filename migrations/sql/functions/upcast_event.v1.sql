-- An event of the log as if it had been written today. The commonest event by far is of the present version, and stays as it is.
CREATE FUNCTION persistence.upcast_event(event persistence.orchestration_events) RETURNS persistence.orchestration_events
LANGUAGE plpgsql STABLE
AS $$
BEGIN
  event.event_data := persistence.upcast_data(event.event_type, event.event_version, event.event_data);
  event.event_version := (
    SELECT t.event_version FROM canon.event_types AS t WHERE t.event_type = event.event_type AND t.is_current
  );
  RETURN event;
END
$$;

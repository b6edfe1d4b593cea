-- Refuses an event of a batch of which a later one, from this place on, should have come before: what it is a part of, or an earlier version of the same.
CREATE FUNCTION persistence.check_order(event persistence.orchestration_events, events jsonb, place bigint) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  names_a_later_one CONSTANT jsonpath := '$[$place to last] ? (@.aggregate_version == 1 && (@.aggregate_id == $names.run_id
    || @.aggregate_id == $names.step_id || @.aggregate_id == $names.parent_run_id || @.aggregate_id == $names.signal_id))';
  follows_a_later_one CONSTANT jsonpath := '$[$place to last] ? (@.aggregate_id == $id && @.aggregate_version < $version)';
  other jsonb;
BEGIN
  IF event.aggregate_version = 1 THEN
    other := jsonb_path_query_first(events, names_a_later_one, jsonb_build_object('place', place, 'names', event.event_data), true);
    IF other IS NOT NULL THEN
      PERFORM refuse_early_part(event, other ->> 'aggregate_type', (other ->> 'aggregate_id')::uuid);
    END IF;
  ELSE
    other := jsonb_path_query_first(
      events, follows_a_later_one, jsonb_build_object('place', place, 'id', event.aggregate_id, 'version', event.aggregate_version), true
    );
    IF other IS NOT NULL THEN
      PERFORM refuse_late_version(
        event.aggregate_type, event.aggregate_id, event.aggregate_version, (other ->> 'aggregate_version')::integer
      );
    END IF;
  END IF;
  RETURN true;
END
$$;

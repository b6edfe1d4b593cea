-- Refuses data that an event of this type cannot have: for the functions that write events of their own.
CREATE FUNCTION persistence.check_event_data(event_type text, event_data jsonb) RETURNS void
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  kind canon.event_types;
  wrong text;
BEGIN
  SELECT t.* INTO STRICT kind FROM canon.event_types AS t WHERE t.event_type = check_event_data.event_type AND t.is_current;
  IF jsonb_typeof(event_data) IS DISTINCT FROM 'object' THEN
    wrong := 'no JSON object';
  ELSIF NOT event_data ?& coalesce(kind.creating_keys, kind.required_keys) THEN
    wrong := format('without one of %s', array_to_string(coalesce(kind.creating_keys, kind.required_keys), ', '));
  ELSIF event_data - kind.known_keys <> '{}' THEN
    wrong := format('with %s', (SELECT string_agg(k.key, ', ') FROM jsonb_object_keys(event_data - kind.known_keys) AS k (key)));
  ELSIF (event_data @@ kind.data_rule) IS NOT TRUE THEN
    wrong := format('with a wrong %s', (SELECT min(f.key) FROM jsonb_each_text(kind.field_rules) AS f WHERE (event_data @@ f.value::jsonpath) IS NOT TRUE));
  END IF;
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('%s: its data are %s', event_type, wrong),
      HINT = 'canon.event_types.data_schema says what they may be.';
  END IF;
END
$$;

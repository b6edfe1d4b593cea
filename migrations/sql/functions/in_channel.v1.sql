-- Whether an event is in a channel of the log. Of a run: its own events, and those that name it.
CREATE FUNCTION persistence.in_channel(channel text, event persistence.orchestration_events) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT CASE split_part(in_channel.channel, ':', 1)
    WHEN 'events' THEN true
    WHEN 'type' THEN (in_channel.event).event_type = substr(in_channel.channel, 6)
    WHEN 'agent' THEN (in_channel.event).actor = substr(in_channel.channel, 7)
    WHEN 'correlation' THEN (in_channel.event).correlation_id::text = substr(in_channel.channel, 13)
    WHEN 'run' THEN substr(in_channel.channel, 5) IN ((in_channel.event).aggregate_id::text, (in_channel.event).event_data ->> 'run_id')
    ELSE false
  END
$$;

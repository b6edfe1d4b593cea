-- Tells those who follow these channels. Side by side: channels and contents. Numbers are given one tenant's caller at a time, so they come in the order of
-- the commits, and none is missing. Of each tenant the last 10,000 messages stay at most. Returns the id of the numbers and the last one given.
-- Errors: PE008 for contents that are too many or too large.
CREATE FUNCTION persistence.publish_live(
  tenant_id uuid, user_id uuid, channels text[], contents jsonb[], actor text, proof text DEFAULT NULL
) RETURNS TABLE (feed uuid, last bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  f live_feeds;
  amount CONSTANT integer := coalesce(cardinality(channels), 0);
BEGIN
  PERFORM enter_tenant(publish_live.tenant_id, publish_live.user_id, publish_live.proof);
  IF amount NOT BETWEEN 1 AND 1000 OR amount <> cardinality(contents) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('contents: %s for %s channels', coalesce(cardinality(contents), 0), amount),
      HINT = 'One channel for each content, at most 1,000 at a time.';
  ELSIF EXISTS (SELECT FROM unnest(contents) AS c (content) WHERE c.content IS NULL OR octet_length(c.content::text) > 32768) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = 'content: is missing, or has more than 32,768 bytes',
      HINT = 'Send less at a time; what is large belongs into an event or a file.';
  END IF;
  INSERT INTO live_feeds AS x (tenant_id, last)
  VALUES (publish_live.tenant_id, amount)
  ON CONFLICT (tenant_id) DO UPDATE
  SET last = x.last + amount, updated_at = now()
  RETURNING x.* INTO f;
  INSERT INTO live_messages (tenant_id, number, channel, content, actor)
  SELECT publish_live.tenant_id, f.last - amount + m.n, m.channel, m.content, publish_live.actor
  FROM unnest(channels, contents) WITH ORDINALITY AS m (channel, content, n);
  IF f.last - f.swept_to > 11000 THEN
    DELETE FROM live_messages AS m
    WHERE m.tenant_id = publish_live.tenant_id
      AND m.number <= f.last - 10000;
    UPDATE live_feeds AS x
    SET swept_to = f.last - 10000
    WHERE x.tenant_id = publish_live.tenant_id;
  END IF;
  RETURN QUERY SELECT f.id, f.last;
END
$$;

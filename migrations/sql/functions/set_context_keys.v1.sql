-- Sets whose proofs let a transaction enter a tenant (see is_proven): the keys as HMAC-SHA256 pads them, in pairs. None: membership is enough again.
-- Returns false when they were so already.
CREATE FUNCTION persistence.set_context_keys(inner_pads bytea[], outer_pads bytea[], actor text) RETURNS boolean
LANGUAGE plpgsql
SET search_path = persistence, pg_temp
AS $$
BEGIN
  LOCK TABLE canon.context_keys IN EXCLUSIVE MODE;
  IF ARRAY(SELECT k.inner_pad FROM canon.context_keys AS k ORDER BY 1) = ARRAY(SELECT i FROM unnest(inner_pads) AS i ORDER BY 1) THEN
    RETURN false;
  END IF;
  DELETE FROM canon.context_keys AS k WHERE k.inner_pad <> ALL (inner_pads);
  INSERT INTO canon.context_keys (inner_pad, outer_pad)
  SELECT k.inner_pad, k.outer_pad
  FROM unnest(inner_pads, outer_pads) AS k (inner_pad, outer_pad)
  ON CONFLICT DO NOTHING;
  PERFORM record_context_keys(cardinality(inner_pads), set_context_keys.actor);
  RETURN true;
END
$$;

-- Refuses a batch in which a version of an aggregate stands before one that it follows.
CREATE FUNCTION persistence.refuse_late_version(aggregate_type text, aggregate_id uuid, version integer, earlier_version integer) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'PE008',
    MESSAGE = format('%s %s: version %s stands before version %s in the batch', aggregate_type, aggregate_id, version, earlier_version),
    HINT = 'Put the events of one aggregate in the order of their versions.';
END
$$;

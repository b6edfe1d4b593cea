-- Refuses to end runs or steps in a transaction with a snapshot, which does not see what began in them meanwhile; those that began in it can end.
CREATE FUNCTION persistence.refuse_end_in_snapshot(tenant_id uuid, kind text, ids uuid[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
  ending uuid;
BEGIN
  SELECT e.aggregate_id
  INTO ending
  FROM orchestration_events AS e
  WHERE e.tenant_id = refuse_end_in_snapshot.tenant_id
    AND e.aggregate_id = ANY (ids)
    AND e.aggregate_version = 1
    AND e.transaction_id <> pg_current_xact_id()
  LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format(
        'transaction_isolation: %s %s cannot end in a transaction that is %s', kind, ending, current_setting('transaction_isolation')
      ),
      HINT = 'What began in it meanwhile would not be seen. Use plane.transaction instead of a snapshot, or READ COMMITTED.';
  END IF;
END
$$;

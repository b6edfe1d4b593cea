-- Trigger of tables that are only ever added to.
CREATE FUNCTION persistence.refuse_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'PE011',
    MESSAGE = format('%s is append-only: %s refused', TG_TABLE_NAME, TG_OP),
    HINT = 'What happened stays in the log. Append an event that corrects it.';
END
$$;

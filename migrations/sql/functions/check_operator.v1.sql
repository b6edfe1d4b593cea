-- Refuses an actor that an operator's event cannot have.
CREATE FUNCTION persistence.check_operator(actor text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
AS $$
BEGIN
  IF starts_with(actor, 'system:outbox-worker/') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE012',
      MESSAGE = format('actor: %s belongs to outbox workers', actor),
      HINT = 'Say who operates: user:… or system:… with a name of its own.';
  END IF;
END
$$;

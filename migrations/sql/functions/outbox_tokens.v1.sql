-- How many attempts a rate limit allows at this moment: they come at its rate, and a second's worth is kept.
CREATE FUNCTION persistence.outbox_tokens(account persistence.outbox_limits) RETURNS double precision
LANGUAGE sql STABLE
AS $$
  SELECT CASE
    WHEN account.tokens_at IS NULL THEN greatest(account.max_rate, 1)
    ELSE least(
      greatest(account.max_rate, 1),
      account.tokens + account.max_rate * greatest(extract(epoch FROM now() - account.tokens_at)::double precision, 0)
    )
  END
$$;

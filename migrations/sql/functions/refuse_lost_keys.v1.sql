-- Triggers of secrets and data_keys: nothing is sealed by a key that is not the tenant's own or is gone, nor for a time that is over; and no key goes while
-- something needs it.
CREATE FUNCTION persistence.refuse_lost_keys() RETURNS trigger
LANGUAGE plpgsql
SET search_path = persistence, pg_temp
AS $$
DECLARE
  k data_keys;
BEGIN
  IF TG_TABLE_NAME = 'data_keys' THEN
    IF EXISTS (SELECT FROM secrets AS s WHERE s.tenant_id = NEW.tenant_id AND s.key_id = NEW.id AND s.status = 'HELD') THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE002',
        MESSAGE = format('data key %s still seals secrets', NEW.id),
        HINT = 'Seal them with a later one first: persistence vault rewrap.';
    END IF;
    RETURN NEW;
  END IF;
  IF TG_OP = 'INSERT' AND NEW.expires_at <= now() THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('expires_at: %s is over', NEW.expires_at),
      HINT = 'Say a moment that is to come.';
  END IF;
  SELECT d.* INTO k FROM data_keys AS d WHERE d.tenant_id = NEW.tenant_id AND d.id = NEW.key_id FOR SHARE;
  IF k.status IS DISTINCT FROM 'ACTIVE' OR k.subject <> '' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('key_id: %s is no key of this tenant''s secrets, or is destroyed', NEW.key_id),
      HINT = 'Seal it with the tenant''s present key.';
  END IF;
  RETURN NEW;
END
$$;

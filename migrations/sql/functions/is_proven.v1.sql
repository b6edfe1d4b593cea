-- Whether the present transaction's proof is one for this tenant and user: `EXPIRES:HMAC`, where EXPIRES is in seconds since 1970 and HMAC is the HMAC-SHA256,
-- in hexadecimal digits, of TENANT, USER and EXPIRES, one after the other. While there are no keys nothing has to be proven.
CREATE FUNCTION persistence.is_proven(tenant_id uuid, user_id uuid) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
  proof text := current_setting('persistence.proof', true);
  expires text := split_part(proof, ':', 1);
  signed bytea;
BEGIN
  IF NOT EXISTS (SELECT FROM canon.context_keys) THEN
    RETURN true;
  END IF;
  IF expires ~ '^[0-9]{1,12}$' AND expires::bigint > extract(epoch FROM now()) THEN
    signed := convert_to(tenant_id::text || user_id::text || expires, 'UTF8');
    RETURN EXISTS (
      SELECT
      FROM canon.context_keys AS k
      WHERE encode(sha256(k.outer_pad || sha256(k.inner_pad || signed)), 'hex') = split_part(proof, ':', 2)
    );
  END IF;
  RETURN false;
END
$$;

-- Gives a sealed secret with its key, and records who reads it and what for: there is no other way to it for services. What the vault then makes of it is its
-- affair. number: the version; NULL: the last one. event: SECRET_READ, as append_events takes it, without the secret's id; one
-- that is in the log already gives nothing. vault, terms: what is open, so that nothing is read that could not be opened.
-- Whoever reads it for the last time takes it along: its sealed value is destroyed with that.
-- Errors: those of append_events; PE013 where the secret is over, PE015 where it is another vault's.
CREATE FUNCTION persistence.read_secret(
  tenant_id uuid, user_id uuid, name text, number integer, vault uuid, terms integer[], event jsonb, proof text DEFAULT NULL
)
RETURNS TABLE (
  secret_name text, secret_number integer, sealed text, key_id uuid, term integer, vault_id uuid, vault_term integer, sealed_key text
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  s secrets;
  reads bigint;
  key data_keys;
  is_recorded boolean;
BEGIN
  IF event ->> 'event_type' IS DISTINCT FROM 'SECRET_READ' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = 'event_type: this records that a secret is read, and nothing else',
      HINT = 'SECRET_READ.';
  END IF;
  PERFORM enter_tenant(read_secret.tenant_id, read_secret.user_id, read_secret.proof);
  SELECT x.* INTO s
  FROM secrets AS x
  WHERE x.tenant_id = read_secret.tenant_id
    AND x.name = read_secret.name
    AND x.number = coalesce(read_secret.number, x.number)
  ORDER BY x.number DESC
  LIMIT 1;
  IF s.id IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE003',
      MESSAGE = format('there is no secret %L%s in this tenant', read_secret.name, ' of version ' || read_secret.number),
      HINT = 'persistence secret list shows those there are.';
  END IF;
  IF s.max_reads IS NOT NULL THEN  -- locked before the access points at it: who waits here holds nothing
    SELECT x.* INTO s FROM secrets AS x WHERE x.tenant_id = s.tenant_id AND x.id = s.id FOR UPDATE;
  END IF;
  SELECT k.* INTO key
  FROM data_keys AS k
  WHERE k.tenant_id = s.tenant_id
    AND k.id = s.key_id;
  IF key.vault_id <> read_secret.vault OR NOT key.vault_term = ANY (read_secret.terms) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE015',
      MESSAGE = format('secret %L is of vault %s, term %s, which is not the vault that is open', s.name, key.vault_id, key.vault_term),
      HINT = 'Mount the vault that this database was used with.';
  END IF;
  SELECT bool_and(a.is_new) INTO is_recorded
  FROM append_events(
    read_secret.tenant_id,
    read_secret.user_id,
    jsonb_build_array(jsonb_set(event, '{event_data,secret_id}', to_jsonb(s.id))),
    read_secret.proof
  ) AS a;
  IF is_recorded IS NOT TRUE THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE004',
      MESSAGE = 'this reading is on the record already',
      HINT = 'Each reading is an event of its own: make another.';
  END IF;
  IF s.max_reads IS NOT NULL THEN
    SELECT count(*) INTO reads FROM vault_accesses AS a WHERE a.tenant_id = s.tenant_id AND a.secret_id = s.id;
  END IF;
  IF s.status <> 'HELD' OR s.expires_at <= now() OR reads > s.max_reads THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE013',
      MESSAGE = format(
        'secret %L, version %s: %s', s.name, s.number,
        CASE WHEN s.status <> 'HELD' THEN 'was destroyed' WHEN s.expires_at <= now() THEN format('is over since %s', s.expires_at) ELSE 'was read as often as it may be' END
      ),
      HINT = 'Set it again: persistence secret set.';
  END IF;
  IF reads = s.max_reads THEN
    PERFORM append_events(
      s.tenant_id,
      read_secret.user_id,
      jsonb_build_array(jsonb_build_object(
        'id', new_id(), 'event_type', 'SECRET_DESTROYED', 'event_version', 1, 'aggregate_type', 'SECRET', 'aggregate_id', s.id,
        'aggregate_version', s.version + 1, 'event_data', jsonb_build_object('reason', 'read as often as it may be'),
        'correlation_id', s.correlation_id, 'causation_id', s.last_event_id, 'actor', event ->> 'actor', 'source', event ->> 'source'
      )),
      read_secret.proof
    );
  END IF;
  RETURN QUERY SELECT s.name::text, s.number, s.sealed, key.id, key.term, key.vault_id, key.vault_term, key.sealed;
END
$$;

-- Gives the wrapped key of a subject's data, and records who is given it and what for. subject: its tag, for its present key; nothing comes where it has none.
-- key_id: a key by its id. event: SUBJECT_READ, as append_events takes it, without the key's id.
-- Errors: those of append_events; PE014 where the key was destroyed.
CREATE FUNCTION persistence.read_subject_key(tenant_id uuid, user_id uuid, subject text, key_id uuid, event jsonb, proof text DEFAULT NULL)
RETURNS TABLE (data_key_id uuid, tag text, term integer, vault_id uuid, vault_term integer, sealed_key text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  k data_keys;
  is_recorded boolean;
BEGIN
  IF event ->> 'event_type' IS DISTINCT FROM 'SUBJECT_READ' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = 'event_type: this records that a subject''s key is read, and nothing else',
      HINT = 'SUBJECT_READ.';
  END IF;
  PERFORM enter_tenant(read_subject_key.tenant_id, read_subject_key.user_id, read_subject_key.proof);
  IF read_subject_key.key_id IS NULL THEN
    SELECT x.* INTO k
    FROM data_keys AS x
    WHERE x.tenant_id = read_subject_key.tenant_id
      AND x.subject = read_subject_key.subject
      AND x.subject <> ''
      AND x.status = 'ACTIVE'
    ORDER BY x.term DESC
    LIMIT 1;
    IF k.id IS NULL THEN
      RETURN;
    END IF;
  ELSE
    SELECT x.* INTO k
    FROM data_keys AS x
    WHERE x.tenant_id = read_subject_key.tenant_id
      AND x.id = read_subject_key.key_id
      AND x.subject <> '';
    IF k.id IS NULL THEN
      RAISE EXCEPTION USING
        ERRCODE = 'PE003',
        MESSAGE = format('there is no key %s of a subject''s data in this tenant', read_subject_key.key_id),
        HINT = 'It was sealed in another tenant, or another database.';
    END IF;
  END IF;
  SELECT bool_and(a.is_new) INTO is_recorded
  FROM append_events(
    read_subject_key.tenant_id,
    read_subject_key.user_id,
    jsonb_build_array(jsonb_set(event, '{event_data,key_id}', to_jsonb(k.id))),
    read_subject_key.proof
  ) AS a;
  IF is_recorded IS NOT TRUE THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE004',
      MESSAGE = 'this reading is on the record already',
      HINT = 'Each reading is an event of its own: make another.';
  END IF;
  IF k.status <> 'ACTIVE' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE014',
      MESSAGE = format('the key %s of a subject''s data was destroyed at %s', k.id, k.updated_at),
      HINT = 'Nobody can read it any more; the event DATA_KEY_DESTROYED says why.';
  END IF;
  RETURN QUERY SELECT k.id, k.subject, k.term, k.vault_id, k.vault_term, k.sealed;
END
$$;

-- Applies deltas to the runtime tables. Aggregates come in the order in which one may need the other.
CREATE FUNCTION persistence.fold_deltas(deltas persistence.aggregate_delta[], attachments jsonb) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  kinds CONSTANT text[] := ARRAY['SIGNAL', 'RUN', 'STEP', 'TOOL_CALL', 'MEMORY_INDEX', 'MEMORY', 'MEMORY_RECALL', 'EFFECT', 'CHECKPOINT', 'TENANT',
    'BACKUP_VERIFICATION', 'DATA_KEY', 'SECRET', 'VAULT_ACCESS', 'SNAPSHOT'];
  creations integer[] := ARRAY[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
  changes integer[] := ARRAY[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
  d aggregate_delta;
  kind text;
  place integer;
BEGIN
  FOREACH d IN ARRAY deltas LOOP
    IF d.aggregate_type IS DISTINCT FROM kind THEN
      kind := d.aggregate_type;
      place := array_position(kinds, kind);
    END IF;
    IF d.first_version = 1 THEN
      creations[place] := creations[place] + 1;
    ELSE
      changes[place] := changes[place] + 1;
    END IF;
  END LOOP;
  FOR place IN 1 .. cardinality(kinds) LOOP
    IF creations[place] + changes[place] > 0 THEN
      IF NOT fold_kind(kinds[place], deltas, creations[place], changes[place], attachments) THEN
        PERFORM refuse_deltas(kinds[place], deltas);
      END IF;
    END IF;
  END LOOP;
  RETURN true;
END
$$;

-- What is answered for requests of effects that were known already (known_effects).
  IF known <> '[]' THEN
    RETURN QUERY
      SELECT k.event_id, k.sequence_number, k.aggregate_id, false
      FROM jsonb_to_recordset(known) AS k (event_id uuid, sequence_number bigint, aggregate_id uuid);
  END IF;

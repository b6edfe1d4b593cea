-- Applies the deltas of one kind of aggregate. (Functions are called by assignment here: plpgsql evaluates that without a query.)
CREATE FUNCTION persistence.fold_kind(
  kind text, deltas persistence.aggregate_delta[], creations integer, changes integer, attachments jsonb
) RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
  CASE kind
    WHEN 'RUN' THEN RETURN fold_runs(deltas, creations, changes);
    WHEN 'STEP' THEN RETURN fold_steps(deltas, creations, changes);
    WHEN 'EFFECT' THEN RETURN fold_effects(deltas, creations, changes) AND fold_outbox(deltas, creations, changes);
    WHEN 'SIGNAL' THEN RETURN fold_signals(deltas, creations, changes);
    WHEN 'TOOL_CALL' THEN RETURN fold_tool_calls(deltas, creations, changes);
    WHEN 'TENANT' THEN RETURN true;  -- tenants and memberships are held to their events by a gate
    WHEN 'BACKUP_VERIFICATION' THEN RETURN fold_backup_verifications(deltas);
    WHEN 'CHECKPOINT' THEN RETURN fold_checkpoints(deltas, creations, changes, attachments);
  END CASE;
END
$$;

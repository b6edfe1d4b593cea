-- Applies the deltas of one kind of aggregate. Returns whether all fitted their rows; refuse_deltas says which did not.
-- (Functions are called by assignment here: plpgsql evaluates that without a query.)
CREATE FUNCTION persistence.fold_kind{one}(kind text, {deltas}, attachments jsonb) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  entries_fit boolean;
BEGIN
  CASE kind
    WHEN 'RUN' THEN RETURN fold_runs{one}({these});
    WHEN 'STEP' THEN RETURN fold_steps{one}({these});
    WHEN 'EFFECT' THEN
      entries_fit := fold_outbox{one}({these});  -- before the effects: a known request is known, whatever else is wrong with it
      RETURN fold_effects{one}({these}) AND entries_fit;
    WHEN 'SIGNAL' THEN RETURN fold_signals{one}({these});
    WHEN 'TOOL_CALL' THEN RETURN fold_tool_calls{one}({these});
    WHEN 'TENANT' THEN RETURN true;  -- tenants and memberships are held to their events by a gate
    WHEN 'BACKUP_VERIFICATION' THEN RETURN fold_backup_verifications({all});
    WHEN 'CHECKPOINT' THEN RETURN fold_checkpoints{one}({these}, attachments);
    WHEN 'DATA_KEY' THEN RETURN fold_data_keys{one}({these}, attachments);
    WHEN 'SECRET' THEN RETURN fold_secrets{one}({these}, attachments);
    WHEN 'VAULT_ACCESS' THEN RETURN fold_vault_accesses{one}({these});
    WHEN 'MEMORY' THEN RETURN fold_memories{one}({these}, attachments);
    WHEN 'MEMORY_RECALL' THEN RETURN fold_memory_recalls{one}({these});
    WHEN 'MEMORY_INDEX' THEN RETURN fold_memory_indexes{one}({these});
    WHEN 'SNAPSHOT' THEN RETURN fold_snapshots{one}({these});
  END CASE;
END
$$;

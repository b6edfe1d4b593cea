-- Whether an event begins a part of something, or goes on with it after a pause.
CASE
  WHEN e.aggregate_version > 1 THEN e.event_type IN (
    'RUN_STARTED', 'RUN_RESUMED', 'RUN_RETRIED', 'STEP_STARTED', 'STEP_RESUMED', 'STEP_RETRIED', 'TOOL_CALL_STARTED'
  )
  WHEN e.aggregate_type IN ('SIGNAL', 'DATA_KEY', 'SECRET', 'VAULT_ACCESS', 'SNAPSHOT', 'MEMORY_INDEX') THEN false
  WHEN e.aggregate_type = 'MEMORY' THEN e.event_data ? 'run_id'
  WHEN e.aggregate_type = 'RUN' THEN e.event_data ?| '{parent_run_id,signal_id}'
  ELSE true
END

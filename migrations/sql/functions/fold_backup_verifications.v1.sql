-- Applies the deltas of backup verifications: each begins and ends with one event.
CREATE FUNCTION persistence.fold_backup_verifications(deltas persistence.aggregate_delta[]) RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
  INSERT INTO backup_verifications (
    tenant_id, id, status, version, correlation_id, causation_id, actor, last_event_id, created_at, updated_at,
    backup_label, taken_at, verified_at, findings, error_details
  )
  SELECT
    d.tenant_id, d.id, d.status, d.version, d.correlation_id, d.causation_id, d.actor, d.last_event_id, d.created_at, d.updated_at,
    d.doc ->> 'backup_label', (d.doc ->> 'taken_at')::timestamptz, (d.doc ->> 'verified_at')::timestamptz,
    nullif(d.doc -> 'findings', 'null'), nullif(d.doc -> 'error_details', 'null')
  FROM unnest(deltas) AS d
  WHERE d.aggregate_type = 'BACKUP_VERIFICATION';
  RETURN true;
END
$$;

-- What came of trying a backup: it was started, and the gates and the replay were run on it. Kept under the system tenant.
CREATE TABLE persistence.backup_verifications (
  tenant_id      uuid NOT NULL,
  id             uuid NOT NULL,
  backup_label   text NOT NULL,
  status         text NOT NULL,
  taken_at       timestamptz NOT NULL,
  verified_at    timestamptz NOT NULL,
  findings       jsonb,
  error_details  jsonb,
  correlation_id uuid NOT NULL,
  causation_id   uuid,
  actor          varchar(100) NOT NULL,
  version        integer NOT NULL,
  last_event_id  uuid NOT NULL,
  created_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX backup_verifications_label_idx ON persistence.backup_verifications (tenant_id, backup_label, verified_at);

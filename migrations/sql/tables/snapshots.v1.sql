-- Copies of the state on disk, each at one position of the log (epoch-transaction-number). digest: of its manifest. subject: the agent or the correlation it is of.
CREATE TABLE persistence.snapshots (
  tenant_id      uuid NOT NULL,
  id             uuid NOT NULL,
  snapshot_kind  text NOT NULL,
  folder         varchar(100) NOT NULL,
  subject        varchar(200),
  position       text NOT NULL,
  digest         text NOT NULL,
  size_bytes     bigint NOT NULL,
  cause          text NOT NULL,
  status         text NOT NULL,
  verified_at    timestamptz,
  restored_at    timestamptz,
  findings       jsonb,
  error_details  jsonb,
  correlation_id uuid NOT NULL,
  causation_id   uuid,
  actor          varchar(100) NOT NULL,
  version        integer NOT NULL,
  last_event_id  uuid NOT NULL,
  created_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT snapshots_folder_key UNIQUE (tenant_id, folder)
);
CREATE INDEX snapshots_kind_idx ON persistence.snapshots (tenant_id, snapshot_kind, id);

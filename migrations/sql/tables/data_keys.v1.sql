-- Keys that seal: of a tenant's secrets (subject is empty; one a term), or of one subject's data (subject: a tag that only the vault can make of a name).
-- sealed: the key, wrapped by the vault's key of vault_term; the log keeps its digest only; NULL once destroyed.
CREATE TABLE persistence.data_keys (
  tenant_id      uuid NOT NULL,
  id             uuid NOT NULL,
  subject        text NOT NULL,
  term           integer NOT NULL,
  vault_id       uuid NOT NULL,
  vault_term     integer NOT NULL,
  digest         text NOT NULL,
  sealed         text,
  status         text NOT NULL,
  correlation_id uuid NOT NULL,
  causation_id   uuid,
  actor          varchar(100) NOT NULL,
  version        integer NOT NULL,
  last_event_id  uuid NOT NULL,
  created_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT data_keys_subject_key UNIQUE (tenant_id, subject, term)
);

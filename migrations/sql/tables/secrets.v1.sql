-- Versions of secrets, each a row. sealed: the value, sealed by the key key_id; the log keeps its digest only; NULL once destroyed.
-- Not read after expires_at, nor more often than max_reads.
CREATE TABLE persistence.secrets (
  tenant_id      uuid NOT NULL,
  id             uuid NOT NULL,
  name           varchar(200) NOT NULL,
  number         integer NOT NULL,
  secret_kind    text NOT NULL,
  key_id         uuid NOT NULL,
  digest         text NOT NULL,
  expires_at     timestamptz,
  max_reads      integer,
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
  CONSTRAINT secrets_name_key UNIQUE (tenant_id, name, number),
  CONSTRAINT secrets_key_fkey FOREIGN KEY (tenant_id, key_id) REFERENCES persistence.data_keys
);
CREATE INDEX secrets_key_idx ON persistence.secrets (tenant_id, key_id);
CREATE INDEX secrets_expiry_idx ON persistence.secrets (tenant_id, expires_at) WHERE sealed IS NOT NULL AND expires_at IS NOT NULL;

-- Who was given what is sealed, and what for: a secret's value, or the key of a subject's data.
CREATE TABLE persistence.vault_accesses (
  tenant_id      uuid NOT NULL,
  id             uuid NOT NULL,
  secret_id      uuid,
  key_id         uuid,
  purpose        varchar(1000) NOT NULL,
  status         text NOT NULL,
  correlation_id uuid NOT NULL,
  causation_id   uuid,
  actor          varchar(100) NOT NULL,
  version        integer NOT NULL,
  last_event_id  uuid NOT NULL,
  created_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT vault_accesses_secret_fkey FOREIGN KEY (tenant_id, secret_id) REFERENCES persistence.secrets,
  CONSTRAINT vault_accesses_key_fkey FOREIGN KEY (tenant_id, key_id) REFERENCES persistence.data_keys
);
CREATE INDEX vault_accesses_secret_idx ON persistence.vault_accesses (tenant_id, secret_id, id) WHERE secret_id IS NOT NULL;
CREATE INDEX vault_accesses_key_idx ON persistence.vault_accesses (tenant_id, key_id, id) WHERE key_id IS NOT NULL;

-- Access to the HTTP service. Of a token only the digest of its secret is kept. Issued and revoked by functions that record it.
-- acts_as: the actor of whatever is done with it; user_id: in whose name, as a member of the tenant.
CREATE TABLE persistence.api_tokens (
  tenant_id  uuid NOT NULL,
  id         uuid NOT NULL,
  name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  role       text NOT NULL CHECK (role IN ('reader', 'operator', 'admin', 'keeper')),
  acts_as    varchar(100) NOT NULL CHECK (acts_as ~ '^(agent|user|system|external):.' AND NOT starts_with(acts_as, 'system:outbox-worker/')),
  user_id    uuid NOT NULL,
  digest     bytea NOT NULL CHECK (length(digest) = 32),
  expires_at timestamptz CHECK (expires_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'),
  revoked_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT api_tokens_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES persistence.tenants
);

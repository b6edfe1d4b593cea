-- Who may work for which tenant. Every row level security policy reads it.
CREATE TABLE persistence.user_tenants (
  tenant_id  uuid NOT NULL REFERENCES persistence.tenants,
  user_id    uuid NOT NULL,
  actor      varchar(100) NOT NULL CHECK (actor LIKE ANY ('{agent:_%,user:_%,system:_%,external:_%}')),
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, user_id)
);

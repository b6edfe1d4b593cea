-- Names are unique too, but that is held by create_tenant: a unique index without tenant_id would tell one tenant of another.
CREATE TABLE persistence.tenants (
  tenant_id  uuid PRIMARY KEY,
  name       text NOT NULL CONSTRAINT tenants_name_check CHECK (
    length(name) BETWEEN 1 AND 200
    AND name = btrim(name)
    AND name !~ '[[:cntrl:]]'
    AND NOT pg_input_is_valid(name, 'uuid')  -- tenants are also named by their ids
  ),
  actor      varchar(100) NOT NULL CHECK (actor LIKE ANY ('{agent:_%,user:_%,system:_%,external:_%}')),
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);

-- How much of the outbox's work a tenant may have at a time, by effect type or ('*') for all it has together. Rows of the system tenant
-- are for all tenants together. Set by set_outbox_limit, which records it.
--
-- weight: its share of what workers claim, against 1 of other tenants.
-- max_rate: attempts a second, on average; a second's worth may come at once. tokens: its account, as of tokens_at.
CREATE TABLE persistence.outbox_limits (
  tenant_id       uuid NOT NULL,
  id              uuid NOT NULL DEFAULT persistence.new_id(),
  effect_type     text NOT NULL CHECK (length(effect_type) BETWEEN 1 AND 200),
  weight          integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 1000),
  max_concurrency integer CHECK (max_concurrency >= 0),
  max_rate        double precision CHECK (max_rate > 0 AND max_rate < 'Infinity'),
  tokens          double precision,
  tokens_at       timestamptz,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT outbox_limits_effect_type_key UNIQUE (tenant_id, effect_type),
  CONSTRAINT outbox_limits_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES persistence.tenants
) WITH (fillfactor = 50);

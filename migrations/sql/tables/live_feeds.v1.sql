-- What is told of a tenant and not kept, in its order. id: of these numbers; they begin anew, under another id, where a crash took what was told. last: the
-- number that was given last. swept_to: messages up to this number are gone.
CREATE UNLOGGED TABLE persistence.live_feeds (
  tenant_id  uuid NOT NULL,
  id         uuid NOT NULL DEFAULT persistence.new_id(),
  last       bigint NOT NULL DEFAULT 0,
  swept_to   bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id)
) WITH (
  fillfactor = 50,
  autovacuum_vacuum_scale_factor = 0.0,
  autovacuum_vacuum_threshold = 1000
);

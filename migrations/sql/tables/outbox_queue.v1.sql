-- The work list: one tiny row for each pending outbox entry, deleted when it is settled. A leased row has a lease_token and its due_at is
-- the moment the lease runs out, so that one index finds both what is due and what was abandoned.
CREATE TABLE persistence.outbox_queue (
  tenant_id   uuid NOT NULL,
  id          uuid NOT NULL,
  effect_type text NOT NULL,
  due_at      timestamptz NOT NULL,
  attempts    integer NOT NULL DEFAULT 0,
  lease_token uuid,
  leased_by   text,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT outbox_queue_entry_fkey FOREIGN KEY (tenant_id, id) REFERENCES persistence.outbox_events ON DELETE CASCADE
) WITH (
  fillfactor = 70,
  autovacuum_vacuum_scale_factor = 0.0,
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX outbox_queue_due_idx ON persistence.outbox_queue (effect_type, tenant_id, due_at);

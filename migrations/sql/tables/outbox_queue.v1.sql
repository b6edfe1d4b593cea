-- The work list: one tiny row for each outbox entry that is pending or a dead letter, deleted when that is over. due_at says from when on it may be claimed; leased_until
-- until when a worker has it. What waits for something else than time is held (held_by) and never due:
--   KEY          for its turn behind another entry of its ordering key
--   DEAD_LETTER  for an operator; it keeps its ordering key if nothing of it may go past
--   CANCELLED    for the worker that has it: it was cancelled meanwhile, and no other attempt follows
--   RESTORE      for somebody to say whether it was delivered in the time that a restore took away
--
-- priority: lower goes first. position: place among the entries of its ordering key, the sequence number of its request.
-- is_counted: whether its lease counts against a limit. is_awaited: whether its run waits for what comes of it. died_at: since when it has been a dead letter.
-- No index has a column that a claim changes, so that leases are taken without touching any (heap-only updates; those that count against a limit are not).
--
-- There is no foreign key to outbox_events: entry and row are written by the same functions, and gates compare them.
CREATE TABLE persistence.outbox_queue (
  tenant_id    uuid NOT NULL,
  id           uuid NOT NULL,
  effect_type  text NOT NULL,
  due_at       timestamptz NOT NULL,
  leased_until timestamptz,
  lease_token  uuid,
  attempts     integer NOT NULL DEFAULT 0,
  priority     smallint NOT NULL DEFAULT 0,
  is_counted   boolean NOT NULL DEFAULT false,
  is_awaited   boolean NOT NULL DEFAULT false,
  position     bigint,
  ordering_key text,
  held_by      text CHECK (held_by IN ('KEY', 'DEAD_LETTER', 'CANCELLED', 'RESTORE')),
  destination  text,
  leased_by    text,
  died_at      timestamptz,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT outbox_queue_held_check CHECK ((held_by IS NOT NULL) = (due_at = 'infinity')),
  CONSTRAINT outbox_queue_died_check CHECK ((died_at IS NOT NULL) = (held_by IS NOT DISTINCT FROM 'DEAD_LETTER'))
) WITH (
  fillfactor = 45,  -- leases are taken in place
  autovacuum_vacuum_scale_factor = 0.0,
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX outbox_queue_due_idx ON persistence.outbox_queue (effect_type, tenant_id, priority, due_at);
CREATE INDEX outbox_queue_counted_idx ON persistence.outbox_queue (effect_type, tenant_id) WHERE is_counted;
CREATE INDEX outbox_queue_key_idx ON persistence.outbox_queue (tenant_id, ordering_key, position) WHERE ordering_key IS NOT NULL;
CREATE INDEX outbox_queue_dead_idx ON persistence.outbox_queue (tenant_id, died_at) WHERE died_at IS NOT NULL;
CREATE INDEX outbox_queue_cancelled_idx ON persistence.outbox_queue (tenant_id, id) WHERE held_by = 'CANCELLED';
-- Of each ordering key, one entry at a time.
CREATE UNIQUE INDEX outbox_queue_turn_key ON persistence.outbox_queue (tenant_id, ordering_key) WHERE ordering_key IS NOT NULL AND held_by IS NULL;

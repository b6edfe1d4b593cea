-- The work list of flows: one row for each run of a flow that an executor is to take up, or has; deleted when the run ends, and while it waits for something.
-- due_at says from when on it may be claimed; leased_until until when an executor has it. What waits for something else than time is held (held_by):
--   KEY   for its turn behind another run of its ordering key
--   WAIT  while it has its turn, and waits for what its flow waits for
--
-- wakes: how many reasons to go on came while it was listed. An executor that lets a run wait says how many it has seen: where more have come, the run is
-- due again, so that none is lost. attempts: claims since it last recorded something. position: place among the runs of its ordering key.
--
-- There is no foreign key to runs: run and row are written by the same functions, and gates compare them.
CREATE TABLE persistence.run_queue (
  tenant_id    uuid NOT NULL,
  id           uuid NOT NULL,
  flow         text NOT NULL,
  flow_version integer NOT NULL,
  due_at       timestamptz NOT NULL,
  leased_until timestamptz,
  lease_token  uuid,
  leased_by    text,
  attempts     integer NOT NULL DEFAULT 0,
  wakes        integer NOT NULL DEFAULT 0,
  priority     smallint NOT NULL DEFAULT 0,
  position     bigint,
  ordering_key text,
  held_by      text CHECK (held_by IN ('KEY', 'WAIT')),
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT run_queue_held_check CHECK ((held_by IS NOT NULL) = (due_at = 'infinity'))
) WITH (
  fillfactor = 45,  -- leases are taken in place
  autovacuum_vacuum_scale_factor = 0.0,
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX run_queue_due_idx ON persistence.run_queue (flow, flow_version, tenant_id, priority, due_at) WHERE held_by IS NULL;
CREATE INDEX run_queue_key_idx ON persistence.run_queue (tenant_id, ordering_key, position) WHERE ordering_key IS NOT NULL;
-- Of each ordering key, one run at a time.
CREATE UNIQUE INDEX run_queue_turn_key ON persistence.run_queue (tenant_id, ordering_key) WHERE ordering_key IS NOT NULL AND held_by IS DISTINCT FROM 'KEY';

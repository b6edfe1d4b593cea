-- Where there may be something to deliver soon: where claims look. Whoever queues an entry leaves a mark unless there is one; sweep_outbox removes those
-- of what is quiet, and leaves one where something comes due that has none. There may be several of one tenant and type: so nobody who leaves one waits
-- for another's transaction. Below swept_to claims need not look: sweep_outbox did.
-- The ids are random, so that claims can begin anywhere.
CREATE TABLE persistence.outbox_marks (
  tenant_id   uuid NOT NULL,
  id          uuid NOT NULL DEFAULT gen_random_uuid(),
  effect_type text NOT NULL,
  swept_to    timestamptz NOT NULL DEFAULT '-infinity',
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id)
) WITH (
  fillfactor = 50,
  autovacuum_vacuum_scale_factor = 0.0,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX outbox_marks_tenant_idx ON persistence.outbox_marks (tenant_id, effect_type);
CREATE INDEX outbox_marks_type_idx ON persistence.outbox_marks (effect_type, id);

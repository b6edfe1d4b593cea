-- Which tenant has ever had entries of which type.
-- handled_at: when a worker with a handler for the type was last seen, to a minute; NULL: never.
CREATE TABLE persistence.outbox_streams (
  tenant_id   uuid NOT NULL,
  id          uuid NOT NULL DEFAULT gen_random_uuid(),
  effect_type text NOT NULL,
  handled_at  timestamptz,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT outbox_streams_effect_type_key UNIQUE (tenant_id, effect_type)
) WITH (fillfactor = 50);
CREATE INDEX outbox_streams_type_idx ON persistence.outbox_streams (effect_type, id);

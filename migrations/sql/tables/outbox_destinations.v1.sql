-- Destinations that failed lately. After enough failures in a row (of which these are all) a destination rests until open_until; then one entry goes as a probe.
-- A destination that has answered since has no row; one that nobody asks loses it after a day.
CREATE TABLE persistence.outbox_destinations (
  tenant_id   uuid NOT NULL,
  id          uuid NOT NULL DEFAULT persistence.new_id(),
  destination text NOT NULL,
  failures    integer NOT NULL,
  open_until  timestamptz,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT outbox_destinations_destination_key UNIQUE (tenant_id, destination)
) WITH (fillfactor = 50);

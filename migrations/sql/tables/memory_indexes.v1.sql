-- What vectors of memories there are: of which model, in which store. The one that was activated last is searched; those that are not retired are kept up.
CREATE TABLE persistence.memory_indexes (
  tenant_id      uuid NOT NULL,
  id             uuid NOT NULL,
  store          text NOT NULL,
  model          varchar(200) NOT NULL,
  dimensions     integer NOT NULL,
  activated_at   timestamptz,
  status         text NOT NULL,
  correlation_id uuid NOT NULL,
  causation_id   uuid,
  actor          varchar(100) NOT NULL,
  version        integer NOT NULL,
  last_event_id  uuid NOT NULL,
  created_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id)
);

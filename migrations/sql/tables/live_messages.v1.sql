-- What is told and not kept: words of a model as they come, lines of logs, what somebody types. Gone after ten minutes, or with a crash of the server;
-- what has to stay is an event. Written by publish_live alone.
CREATE UNLOGGED TABLE persistence.live_messages (
  tenant_id  uuid NOT NULL,
  id         uuid NOT NULL DEFAULT persistence.new_id(),
  number     bigint NOT NULL,
  channel    varchar(300) NOT NULL,
  content    jsonb NOT NULL,
  actor      varchar(100) NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT live_messages_number_key UNIQUE (tenant_id, number)
) WITH (
  autovacuum_vacuum_scale_factor = 0.0,
  autovacuum_vacuum_threshold = 10000
);
CREATE INDEX live_messages_age_idx ON persistence.live_messages (created_at);

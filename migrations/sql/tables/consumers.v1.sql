-- Who follows the log and says how far he is. name: of the consumer; channel: what he follows; holder: who reads for him now, since whoever asked last:
-- nobody else moves him. The position is behind what he has dealt with. Added and removed by functions that record it; moved by ack_consumer.
CREATE TABLE persistence.consumers (
  tenant_id       uuid NOT NULL,
  id              uuid NOT NULL DEFAULT persistence.new_id(),
  name            varchar(200) NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._@-]*$'),
  channel         varchar(300) NOT NULL,
  holder          uuid NOT NULL,
  epoch           integer NOT NULL CHECK (epoch >= 0),
  transaction_id  xid8 NOT NULL,
  sequence_number bigint NOT NULL CHECK (sequence_number >= 0),
  actor           varchar(100) NOT NULL,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  CONSTRAINT consumers_name_key UNIQUE (tenant_id, name),
  CONSTRAINT consumers_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES persistence.tenants
) WITH (
  fillfactor = 50
);

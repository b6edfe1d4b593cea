-- Transaction ids start again when a log is restored into another cluster. Each epoch names the first sequence number written in it, so that
-- a reader's position (epoch, transaction_id, sequence_number) stays right: see read_events.
CREATE TABLE canon.log_epochs (
  epoch                 integer PRIMARY KEY,
  system_identifier     bigint NOT NULL,
  first_sequence_number bigint NOT NULL,
  opened_at             timestamptz NOT NULL DEFAULT now()
);

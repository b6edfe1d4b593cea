-- What one claim may take of one tenant: its part of what is wanted (share), and what its limits leave (cap; NULL: it has none). See claim_outbox.
CREATE TYPE persistence.outbox_share AS (
  tenant_id  uuid,
  swept_to   timestamptz,
  share      integer,
  cap        integer,
  is_counted boolean
);

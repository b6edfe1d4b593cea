"""Delivering effects: from the outbox to the outside world, at least once each, under one idempotency key.

An entry of the outbox is *due* when its time has come and nobody holds it. A worker *claims* due entries: each gets a lease, by the
database's clock, and the attempt counts from that moment. A handler then works on it with no transaction open, and the worker *settles*
what came of it, many entries in one statement::

                    claim                       settle
      ┌─────────┐ ─────────► ┌────────────┐ ─── executed ───► PUBLISHED
      │ PENDING │            │   leased   │
      │   due   │ ◄───────── │  attempt n │ ─── permanent ──► DEAD_LETTER ─┐
      └─────────┘   failed,  └────────────┘     error, or no               │
           ▲        due in a        │           attempts left              │
           │        while           │ lease ran out                        │
           ├────────────────────────┘ (worker died or hung)                │
           └──────────────────────────────────────────── requeue ──────────┘

Who trusts whom: leases and due times are read off the database's clock only, so a worker's own clock may be wrong. A settlement names the
lease it was worked under; once another worker holds the entry it changes nothing. A worker extends the leases of what it is working on, and
cancels a handler whose lease it has lost. What a worker did when it died nobody knows, so its entries are delivered again: receivers tell
repeats by the idempotency key. A settled entry is never delivered again.
"""

from persistence.outbox.backoff import Backoff
from persistence.outbox.delivery import Delivery, PermanentFailure, RetryLater
from persistence.outbox.worker import Worker

__all__ = ["Backoff", "Delivery", "PermanentFailure", "RetryLater", "Worker"]

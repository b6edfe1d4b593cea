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

Which entries are claimed: of each effect type as many as its handler can take, shared among the tenants that have due work by their weights;
what limits of concurrency and rate leave of it; nothing whose destination rests; of an ordering key only the entry whose turn it is. Of a
tenant the lower priority number goes first, then what has been due longest.

Claims look only where there are marks, which whoever queues an entry leaves unless there is one (``outbox_marks``), and only above their
``swept_to``: where somebody keeps a transaction open, the rows of settled entries cannot be cleared away, and each claim would wade through
them. One worker at a time *sweeps*: it looks at everything, moves marks, removes those of what is quiet, leaves one where something is about to
come due, and so finds leases that ran out, entries that were committed late, and ordering keys that lost their turn. So each of these waits for
a few seconds at most.

Who trusts whom: leases and due times are read off the database's clock only, so a worker's own clock may be wrong. A settlement names the
lease it was worked under; once another worker holds the entry it changes nothing. A worker extends the leases of what it is working on, and
cancels a handler whose lease it has lost. What a worker did when it died nobody knows, so its entries are delivered again: receivers tell
repeats by the idempotency key. A settled entry is never delivered again.
"""

from persistence.outbox.backoff import Backoff
from persistence.outbox.breaker import Breaker
from persistence.outbox.delivery import Delivery, PermanentFailure, RetryLater, Snooze
from persistence.outbox.worker import Worker

__all__ = ["Backoff", "Breaker", "Delivery", "PermanentFailure", "RetryLater", "Snooze", "Worker"]

"""Snapshots: copies of a tenant's, an agent's or a conversation's state on disk, or of all there is, each at one position of the log.

A snapshot is a folder, named after its moment:

    snapshots/TENANT/2025-06-21T201500Z/
        manifest.json     what it is, to be read by anybody: kind, position, versions, and of each member name, size and digest
        snapshot.zip      the same manifest, and the members: events.jsonl, a file for each table, context.jsonl, memory_window.json …

It is made beside, whole; then the event SNAPSHOT_TAKEN records the digest of its manifest, and it is put in its place. So what was killed half-way
is never listed, what is recorded can be put there by whoever comes next, and what was changed since is told by its digest.

All members are read in one database snapshot, so they are of one state; *verify* folds the events again and compares. A snapshot may go on from
another (``parent``): then it holds the events since and the rows that they changed, and a member that is as it was there is not stored again
(``held_by``).

*Restoring* into a running service appends events: the log stays as it is, and the state becomes, as far as the state machines let it, what it was.
"""

from persistence.snapshots.differences import Difference
from persistence.snapshots.restoring import Restoration, restore
from persistence.snapshots.retention import Retention, prune
from persistence.snapshots.store import SnapshotStore
from persistence.snapshots.taking import Subject, take
from persistence.snapshots.verifying import verify

__all__ = ["Difference", "Restoration", "Retention", "SnapshotStore", "Subject", "prune", "restore", "take", "verify"]

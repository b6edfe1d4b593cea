"""Snapshots: what is recorded of them."""

import pytest

from persistence import Plane
from persistence.errors import InvalidTransition
from persistence.models import Position, Snapshot, Tenant
from persistence.transaction import Transaction
from tests.helpers import ACTOR


def taken(tx: Transaction, number: int) -> Snapshot:
    return tx.snapshots.take(
        f"2026-01-04T00000{number}Z",
        snapshot_kind="tenant",
        subject=None,
        position=Position(epoch=0, transaction_id=1, sequence_number=number),
        digest="0" * 64,
        size_bytes=1,
        cause="manual",
    )


async def test_the_last_one_that_is_good_stays(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        first, second, third = (taken(tx, number) for number in (1, 2, 3))
        first, second = tx.snapshots.verify(first, {}), tx.snapshots.verify(second, {})
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.snapshots.delete(third, "never verified")
        tx.snapshots.delete(first, "there is a later one")
    with pytest.raises(InvalidTransition, match="last one of its kind"):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.snapshots.delete(second, "by mistake")

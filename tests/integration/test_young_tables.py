"""What taking a signal in costs does not grow with those that are there, also by a plan that was made while there were none."""

import psycopg

from persistence import Plane
from persistence.models import Tenant
from tests.helpers import ACTOR

# Entries of indexes read so far. (Sessions report what they counted when they end.)
_READ = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname IN ('signals', 'orchestration_events')"

_UNDISTURBED = "ALTER TABLE persistence.signals SET (autovacuum_enabled = off)"

FIRST, AFTER, MOST = 1200, 100, 100


async def receive(dsn: str, admin_dsn: str, tenant: Tenant, numbers: range) -> None:
    async with Plane(dsn=dsn, admin_dsn=admin_dsn, pool_min=1, pool_max=1) as plane:
        for number in numbers:
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                await tx.signals.receive("young", str(number), "young.signal", {"n": number})


async def test_the_thousandth_signal_costs_what_the_first_did(
    dsn: str, admin_dsn: str, tenant: Tenant, admin: psycopg.Connection
) -> None:
    admin.execute(_UNDISTURBED)
    await receive(dsn, admin_dsn, tenant, range(FIRST))
    [before] = admin.execute(_READ).fetchall()[0]
    await receive(dsn, admin_dsn, tenant, range(FIRST, FIRST + AFTER))
    [after] = admin.execute(_READ).fetchall()[0]
    assert after - before < MOST * AFTER

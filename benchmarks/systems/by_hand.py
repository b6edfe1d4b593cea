"""The floor: the same record as this package keeps, rows, indexes, digest, foreign keys and row level security, by the fastest SQL that writes it by hand.

Nothing is checked, nothing is looked up, no state is folded: what is written is what the caller says. One statement and one round trip for each transaction.
"""

from uuid import UUID

import asyncpg

from benchmarks.processes import Gate
from benchmarks.systems import plane
from benchmarks.systems.pacing import counted
from persistence.encoding import encode
from persistence.models import new_id

EVENT = """
INSERT INTO orchestration_events (
  tenant_id, id, event_type, event_version, aggregate_type, aggregate_id, aggregate_version, event_data, correlation_id, causation_id, actor, source, occurred_at
)"""
ENTRY = """(
  tenant_id, id, status, version, correlation_id, causation_id, actor, last_event_id, created_at, updated_at, {more}
)"""
EFFECT = "INSERT INTO effects " + ENTRY.format(more="run_id, effect_type, idempotency_key, effect_spec")
OUTBOX = "INSERT INTO outbox_events " + ENTRY.format(more="aggregate_id, event_type, idempotency_key, payload")
QUEUE = "INSERT INTO outbox_queue (tenant_id, id, effect_type, due_at)"
RUN = "INSERT INTO runs " + ENTRY.format(more="run_type, input_data, started_at")

# $1 tenant, $2 run, $3 correlation, $4 cause; of each effect: $5 event, $6 effect, $7 key, $8 spec, $9 data of the event
ENQUEUE = f"""
WITH given AS MATERIALIZED (
  SELECT * FROM unnest($5::uuid[], $6::uuid[], $7::text[], $8::text[], $9::text[]) AS g (event_id, id, key, spec, data)
),
event AS ({EVENT}
  SELECT $1, g.event_id, 'EFFECT_REQUESTED', 1, 'EFFECT', g.id, 1, g.data::jsonb, $3, $4, 'agent:bench', 'service', now() FROM given AS g
),
effect AS ({EFFECT}
  SELECT $1, g.id, 'PENDING', 1, $3, $4, 'agent:bench', g.event_id, now(), now(), $2, 'BENCH', g.key, g.spec::jsonb FROM given AS g
),
entry AS ({OUTBOX}
  SELECT $1, g.id, 'PENDING', 1, $3, $4, 'agent:bench', g.event_id, now(), now(), g.id, 'BENCH', g.key, g.spec::jsonb FROM given AS g
)
{QUEUE}
SELECT $1, g.id, 'BENCH', now() FROM given AS g
"""
ENQUEUE_ONE = f"""
WITH event AS ({EVENT}
  VALUES ($1, $5::uuid, 'EFFECT_REQUESTED', 1, 'EFFECT', $6::uuid, 1, $9::text::jsonb, $3::uuid, $4::uuid, 'agent:bench', 'service', now())
),
effect AS ({EFFECT}
  VALUES ($1, $6::uuid, 'PENDING', 1, $3::uuid, $4::uuid, 'agent:bench', $5::uuid, now(), now(), $2::uuid, 'BENCH', $7::text, $8::text::jsonb)
),
entry AS ({OUTBOX}
  VALUES ($1, $6::uuid, 'PENDING', 1, $3::uuid, $4::uuid, 'agent:bench', $5::uuid, now(), now(), $6::uuid, 'BENCH', $7::text, $8::text::jsonb)
)
{QUEUE}
VALUES ($1::uuid, $6::uuid, 'BENCH', now())
"""
# $1 tenant, $2 run, $3 correlation, $4 input, $5 status; of each event: $6 id, $7 type, $8 version, $9 data, $10 cause
APPEND = f"""
WITH event AS ({EVENT}
  SELECT $1, g.id, g.event_type, 1, 'RUN', $2::uuid, g.version, g.data::jsonb, $3::uuid, g.cause, 'agent:bench', 'service', now()
  FROM unnest($6::uuid[], $7::text[], $8::integer[], $9::text[], $10::uuid[]) AS g (id, event_type, version, data, cause)
)
{RUN}
VALUES ($1::uuid, $2::uuid, $5::text, cardinality($6::uuid[]), $3::uuid, NULL, 'agent:bench', ($6::uuid[])[cardinality($6::uuid[])], now(), now(), 'bench', $4::text::jsonb, now())
"""
CLAIM = """
WITH leased AS (
  UPDATE outbox_queue AS q
  SET leased_until = now() + interval '60 seconds', attempts = q.attempts + 1, lease_token = $2, updated_at = now()
  FROM (
    SELECT d.id
    FROM outbox_queue AS d
    WHERE d.tenant_id = $1 AND d.effect_type = 'BENCH' AND d.due_at <= now() AND (d.leased_until IS NULL OR d.leased_until <= now())
    ORDER BY d.priority, d.due_at
    LIMIT 500
    FOR UPDATE SKIP LOCKED
  ) AS d
  WHERE q.tenant_id = $1 AND q.id = d.id
  RETURNING q.id
)
SELECT o.id, o.payload, o.last_event_id, o.correlation_id FROM leased AS l JOIN outbox_events AS o ON o.tenant_id = $1 AND o.id = l.id
"""
SETTLE = f"""
WITH done AS (
  DELETE FROM outbox_queue AS q USING unnest($2::uuid[]) AS g (id) WHERE q.tenant_id = $1 AND q.id = g.id AND q.lease_token = $6
),
event AS ({EVENT}
  SELECT $1, g.event_id, 'EFFECT_EXECUTED', 1, 'EFFECT', g.id, 2, '{{"retry_count": 0}}', g.correlation_id, g.cause, 'system:outbox-worker/bench', 'outbox', now()
  FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[]) AS g (id, event_id, cause, correlation_id)
),
effect AS (
  UPDATE effects AS e SET status = 'EXECUTED', version = 2, last_event_id = g.event_id, updated_at = now(), executed_at = now()
  FROM unnest($2::uuid[], $3::uuid[]) AS g (id, event_id) WHERE e.tenant_id = $1 AND e.id = g.id
)
UPDATE outbox_events AS o SET status = 'PUBLISHED', version = 2, last_event_id = g.event_id, updated_at = now(), published_at = now()
FROM unnest($2::uuid[], $3::uuid[]) AS g (id, event_id) WHERE o.tenant_id = $1 AND o.id = g.id
"""


def prepare(dsn: str) -> None:
    plane.prepare(dsn)


class _Tenant:
    """Connections that row level security holds to the one tenant, and a run in it."""

    def __init__(self, dsn: str, connections: int) -> None:
        self._dsn, self._connections = dsn, connections

    async def __aenter__(self) -> "_Tenant":
        async with plane.Plane(dsn=plane.as_service(self._dsn)) as library:
            self.tenant_id = await plane.tenant_of(library)
            self.run = await plane.begin_run(library, self.tenant_id)
            self._user_id = library.settings.user_id
        self.pool = await asyncpg.create_pool(
            self._dsn, min_size=self._connections, max_size=self._connections, init=self._enter, reset=_keep
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.close()

    async def _enter(self, connection: asyncpg.Connection) -> None:
        await connection.execute("SET ROLE persistence_owner")
        await connection.execute("SET search_path = persistence")
        await connection.execute(
            "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"
        )
        await connection.execute(f"SET persistence.tenant_id = '{self.tenant_id}'")
        await connection.execute(f"SET persistence.user_id = '{self._user_id}'")

    def effect(self, key: str) -> tuple[UUID, UUID, str, str, str]:
        spec = {"n": 1, "idempotency_key": key}
        return (
            new_id(),
            new_id(),
            key,
            encode(spec),
            encode({"run_id": str(self.run.id), "effect_type": "BENCH", "effect_spec": spec}),
        )


async def _keep(_: asyncpg.Connection) -> None:
    """A connection stays as it is: the tenant is the only one."""


async def enqueue_batches(dsn: str, count: int, gate: Gate | None = None) -> int:
    async with _Tenant(dsn, 1) as tenant, tenant.pool.acquire() as connection:
        if gate:
            gate.wait()
        for batch in range(count // 1000):
            effects = [tenant.effect(f"{batch}-{number}") for number in range(1000)]
            run = tenant.run
            await connection.execute(
                ENQUEUE, tenant.tenant_id, run.id, run.correlation_id, run.last_event_id, *map(list, zip(*effects, strict=True))
            )
    return count


async def enqueue_one(dsn: str, callers: int, seconds: float, gate: Gate) -> int:
    async with _Tenant(dsn, min(callers, 16)) as tenant:

        async def call(name: str) -> None:
            run = tenant.run
            async with tenant.pool.acquire() as connection:
                await connection.execute(
                    ENQUEUE_ONE,
                    tenant.tenant_id,
                    run.id,
                    run.correlation_id,
                    run.last_event_id,
                    *tenant.effect(name),
                )

        return await counted(call, callers, seconds, gate)


async def append(dsn: str, events: int, callers: int, seconds: float, gate: Gate) -> int:
    types = ["RUN_STARTED", *("RUN_SUSPENDED" if number % 2 else "RUN_RESUMED" for number in range(1, events))]
    versions = list(range(1, events + 1))
    data = ['{"run_type":"bench","input_data":{"a":1}}', *["{}"] * (events - 1)]
    async with _Tenant(dsn, min(callers, 16)) as tenant:

        async def call(_: str) -> None:
            ids = [new_id() for _ in versions]
            status = "WAITING" if types[-1] == "RUN_SUSPENDED" else "RUNNING"
            async with tenant.pool.acquire() as connection:
                await connection.execute(
                    APPEND,
                    tenant.tenant_id,
                    new_id(),
                    new_id(),
                    '{"a":1}',
                    status,
                    ids,
                    types,
                    versions,
                    data,
                    [None, *ids[:-1]],
                )

        return await counted(call, callers, seconds, gate)


async def drain(dsn: str, gate: Gate) -> int:
    done = 0
    async with _Tenant(dsn, 1) as tenant, tenant.pool.acquire() as connection:
        gate.wait()
        while rows := await connection.fetch(CLAIM, tenant.tenant_id, token := new_id()):
            ids = [row["id"] for row in rows]
            causes, correlations = [row["last_event_id"] for row in rows], [row["correlation_id"] for row in rows]
            await connection.execute(SETTLE, tenant.tenant_id, ids, [new_id() for _ in ids], causes, correlations, token)
            done += len(rows)
    return done

"""What is meant by an id, a source or an idempotency key: the runs behind it."""

from uuid import UUID

from persistence.models import Model
from persistence.transaction import Transaction

# The runs that an id may mean: of a run, a correlation, a signal, a step, an effect, or an event of one of them.
_BY_ID = """
SELECT 'run' AS what, r.id FROM persistence.runs AS r WHERE r.tenant_id = $1 AND r.id = $2
UNION
SELECT 'correlation', r.id FROM persistence.runs AS r WHERE r.tenant_id = $1 AND r.correlation_id = $2
UNION
SELECT 'signal', r.id FROM persistence.runs AS r WHERE r.tenant_id = $1 AND r.signal_id = $2
UNION
SELECT 'step', s.run_id FROM persistence.steps AS s WHERE s.tenant_id = $1 AND s.id = $2
UNION
SELECT 'tool call', c.run_id FROM persistence.tool_calls AS c WHERE c.tenant_id = $1 AND c.id = $2
UNION
SELECT 'effect', e.run_id FROM persistence.effects AS e WHERE e.tenant_id = $1 AND e.id = $2 AND e.run_id IS NOT NULL
UNION
SELECT 'memory', m.run_id FROM persistence.memories AS m WHERE m.tenant_id = $1 AND m.id = $2 AND m.run_id IS NOT NULL
UNION
SELECT 'event', r.id
FROM persistence.orchestration_events AS e
JOIN persistence.runs AS r ON r.tenant_id = e.tenant_id AND r.correlation_id = e.correlation_id
WHERE e.tenant_id = $1 AND e.id = $2
ORDER BY 2 DESC
LIMIT 50
"""

# The runs behind a signal's source.
_BY_SOURCE = """
SELECT 'signal' AS what, r.id
FROM persistence.signals AS s
JOIN persistence.runs AS r ON r.tenant_id = s.tenant_id AND r.signal_id = s.id
WHERE s.tenant_id = $1
  AND s.source_channel = $2
  AND s.source_id = $3
ORDER BY r.id DESC
LIMIT 50
"""

# The run of an effect's idempotency key.
_BY_KEY = """
SELECT 'idempotency key' AS what, e.run_id AS id
FROM persistence.outbox_events AS o
JOIN persistence.effects AS e ON e.tenant_id = o.tenant_id AND e.id = o.aggregate_id
WHERE o.tenant_id = $1
  AND o.idempotency_key = $2
  AND e.run_id IS NOT NULL
"""


_COLONS = 8
"""So many colons a channel may have of its own."""


class Found(Model):
    """A run, and what the text is of it: run, correlation, signal, step, tool call, effect, memory, event or idempotency key."""

    what: str
    run_id: UUID


async def search_runs(tx: Transaction, text: str) -> list[Found]:
    """The tenant's runs behind an id, a signal's ``channel:source_id`` or an effect's idempotency key; at most 50, the newest first."""
    text = text.strip()
    tenant_id = tx.context.tenant_id
    try:
        rows = await tx.fetch(_BY_ID, tenant_id, UUID(text))
    except ValueError:
        rows = ()
    if not rows:
        channel, colon, source_id = text.partition(":")
        rows = await tx.fetch(_BY_SOURCE, tenant_id, channel, source_id) if colon else ()
        # A channel may have a colon of its own.
        while not rows and ":" in source_id and channel.count(":") < _COLONS:
            part, _, source_id = source_id.partition(":")
            channel = f"{channel}:{part}"
            rows = await tx.fetch(_BY_SOURCE, tenant_id, channel, source_id)
        rows = rows or await tx.fetch(_BY_KEY, tenant_id, text)
    found: dict[UUID, Found] = {}
    for row in rows:
        found.setdefault(row["id"], Found(what=row["what"], run_id=row["id"]))
    return list(found.values())

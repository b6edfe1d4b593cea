"""Which runs there are: the newest first, by what they are, how they stand and when they began."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Select, Uuid, any_, bindparam, func, literal, select

from persistence.database.statements import as_text, compiled
from persistence.database.tables import RUNS
from persistence.errors import InvalidInput
from persistence.models import Model, Run, first_id_at
from persistence.queries.search import search_runs
from persistence.repositories.filters import check_status
from persistence.transaction import Transaction

MAX_PAGE = 1000


class RunFilter(Model):
    """Which runs are meant; None: any.

    status: one of the canon's for runs. since, until: when their ids were made (until is not in it).
    """

    status: str | None = None
    run_type: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class RunLine(Model):
    """A run without what went in and came out. error: class and message of its failure."""

    id: UUID
    run_type: str
    status: str
    version: int
    retry_count: int
    correlation_id: UUID
    signal_id: UUID | None
    actor: str
    wait_reason: str | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None

    @property
    def seconds(self) -> float | None:
        """From start to end."""
        if self.started_at is None or self.completed_at is None:
            return None
        return (self.completed_at - self.started_at).total_seconds()


class RunPage(Model):
    """Some runs; ``next`` is to be passed as ``after`` for those that follow. None: that was all."""

    items: Sequence[RunLine]
    next: UUID | None


async def list_runs(tx: Transaction, wanted: RunFilter | None = None, *, limit: int = 50, after: UUID | None = None) -> RunPage:
    """A page of at most ``limit`` (1 to 1000) of the tenant's runs, the newest first. Raises InvalidInput for a status that there is not."""
    wanted = wanted or RunFilter()
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidInput(f"limit: {limit} is not between 1 and {MAX_PAGE}", field="limit")
    check_status(Run.kind, wanted.status)
    text, values = compiled(_page(tx.context.tenant_id, wanted, limit, after))
    rows = await tx.fetch(text, *values)
    items = [RunLine.made(**row) for row in rows[:limit]]
    return RunPage(items=items, next=items[-1].id if len(rows) > limit else None)


async def found_runs(tx: Transaction, text: str) -> RunPage:
    """The runs behind a text: see ``search_runs``."""
    ids = [found.run_id for found in await search_runs(tx, text)]
    wanted = _lines(tx.context.tenant_id).where(RUNS.c.id == any_(literal(ids, ARRAY(Uuid)))).order_by(RUNS.c.id.desc())
    statement, values = compiled(wanted)
    rows = await tx.fetch(statement, *values) if ids else ()
    return RunPage(items=[RunLine.made(**row) for row in rows], next=None)


def statements() -> dict[str, str]:
    """The statements that ``list_runs`` sends, by what they filter."""
    nobody, moment = UUID(int=0), datetime.fromtimestamp(0, UTC)
    forms: dict[str, dict[str, Any]] = {
        "": {},
        " by status": {"status": bindparam("status")},
        " by type": {"run_type": bindparam("run_type")},
        " by time": {"since": moment, "until": moment},
    }
    return {f"runs, the newest{name}": as_text(_page(nobody, RunFilter.made(**form), 50, nobody)) for name, form in forms.items()}


def _lines(tenant_id: UUID) -> Select[Any]:
    run = RUNS.c
    return select(
        run.id,
        run.run_type,
        run.status,
        run.version,
        run.retry_count,
        run.correlation_id,
        run.signal_id,
        run.actor,
        run.wait_reason,
        func.nullif(func.concat_ws(": ", run.error_details["type"].astext, run.error_details["message"].astext), "").label("error"),
        run.created_at,
        run.started_at,
        run.completed_at,
    ).where(run.tenant_id == tenant_id)


def _page(tenant_id: UUID, wanted: RunFilter, limit: int, after: UUID | None) -> Select[Any]:
    run, query = RUNS.c, _lines(tenant_id)
    if wanted.status is not None:
        query = query.where(run.status == wanted.status)
    if wanted.run_type is not None:
        query = query.where(run.run_type == wanted.run_type)
    if wanted.since is not None:
        query = query.where(run.id >= first_id_at(wanted.since))
    if wanted.until is not None:
        query = query.where(run.id < first_id_at(wanted.until))
    if after is not None:
        query = query.where(run.id < after)
    return query.order_by(run.id.desc()).limit(limit + 1)

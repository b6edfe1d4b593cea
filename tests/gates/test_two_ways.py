"""A few events go one by one, many go together: random histories sent both ways, to two tenants, leave the same tables, and what one way refuses the other does."""

import json
import random
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.canon import CANON
from persistence.models import Tenant, new_id

APPEND = "SELECT event_id, aggregate_id, is_new FROM persistence.append_events($1, $2, $3::text::jsonb)"
WHOLES = {"run_id": "RUN", "step_id": "STEP", "parent_run_id": "RUN", "signal_id": "SIGNAL"}
TABLES = (
    "signals", "runs", "steps", "tool_calls", "effects", "run_checkpoints", "outbox_events", "outbox_queue", "outbox_streams", "outbox_marks",
    "orchestration_events",
)  # fmt: skip
STREAMS = ("outbox_streams", "outbox_marks")
# What differs between any two tenants: numbers and names of rows, moments of writing.
OWN = "{tenant_id,sequence_number,transaction_id,digest,created_at,updated_at,due_at,position}"

Event = dict[str, Any]


class Life:
    def __init__(self, kind: str, correlation: str) -> None:
        self.kind, self.id, self.correlation = kind, str(new_id()), correlation
        self.version, self.status, self.last = 0, "new", ""
        self.run: Life | None = None


class Story:
    """Random batches, of which most are lawful."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.lives: list[Life] = []
        self.now = datetime.now(UTC) - timedelta(days=1)

    def batch(self) -> list[Event]:
        return [event for _ in range(self.chance.randint(1, 8)) if (event := self._event()) is not None]

    def learn(self, admin: psycopg.Connection, tenant_id: UUID) -> None:
        """What was cancelled with something else is over."""
        cancelled = {
            str(row[0])
            for table in ("runs", "steps", "tool_calls", "effects")
            for row in admin.execute(f"SELECT id FROM {table} WHERE tenant_id = %s AND status = 'CANCELLED'", (tenant_id,))
        }
        for life in self.lives:
            if life.id in cancelled:
                life.status = "CANCELLED"

    def _event(self) -> Event | None:
        goes_on = [life for life in self.lives if self._ways(life)]
        if goes_on and self.chance.random() < 0.6:
            life = self.chance.choice(goes_on[-8:])
            data: dict[str, Any] = {}
        else:
            kind = self.chance.choice(["SIGNAL", "RUN", "RUN", "STEP", "STEP", "TOOL_CALL", "EFFECT", "EFFECT", "CHECKPOINT"])
            wholes = self._wholes(kind)
            if wholes is None:
                return None
            life = Life(kind, next(iter(wholes.values())).correlation if wholes else str(new_id()))
            data = {name: whole.id for name, whole in wholes.items()}
            life.last = max((whole.last for whole in wholes.values()), default="")
            life.run = wholes.get("run_id")
            self.lives.append(life)
        name = self.chance.choice(self._ways(life))
        kind_of = CANON.event_types[name]
        life.version += 1
        for key in sorted({*kind_of.required, *(kind_of.create if life.version == 1 else ())} - set(data) - set(WHOLES)):
            data[key] = self._value(key)
        if "open_parts" in kind_of.known and self.chance.random() < 0.5:
            data["open_parts"] = "cancel"
        if name == "EFFECT_REQUESTED" and self.chance.random() < 0.3:
            data["ordering_key"] = "o"
        if "step_index" in kind_of.known and life.version == 1 and self.chance.random() < 0.2:
            data["step_index"] = self.chance.randint(0, 9)
        else:
            data.pop("step_index", None)
        self.now += timedelta(seconds=1)
        event: Event = {
            "id": str(new_id()), "event_type": name, "event_version": kind_of.version, "aggregate_type": life.kind,
            "aggregate_id": life.id, "aggregate_version": life.version, "event_data": data, "correlation_id": life.correlation,
            "causation_id": life.last or None, "actor": "agent:x", "source": "service", "occurred_at": self.now.isoformat(),
        }  # fmt: skip
        if name == "CHECKPOINT_SAVED":
            event["attachment"] = "{}"
        life.status, life.last = CANON.transitions[life.kind][name].target, event["id"]
        return event

    def _ways(self, life: Life) -> list[str]:
        return [name for name in CANON.events_from(life.kind, life.status) if CANON.event_types[name].writer == "service"]

    def _wholes(self, kind: str) -> dict[str, Life] | None:
        """What something new is a part of; None where that is not there."""
        columns = {"RUN": [], "SIGNAL": []}.get(kind, ["run_id"])
        if kind == "RUN" and self.chance.random() < 0.5:
            columns = [self.chance.choice(["signal_id", "parent_run_id"])]
        if kind == "TOOL_CALL" or (kind in {"EFFECT", "CHECKPOINT"} and self.chance.random() < 0.5):
            columns = ["step_id"]
        wholes: dict[str, Life] = {}
        for column in columns:
            there = [
                life
                for life in self.lives
                if life.kind == WHOLES[column] and life.status in {"RECEIVED", "PENDING", "RUNNING", "WAITING"}
            ]
            if not there:
                return None
            wholes[column] = self.chance.choice(there[-4:])
        if "step_id" in wholes:
            run = wholes["step_id"].run
            assert run is not None
            wholes["run_id"] = run
        return wholes

    def _value(self, key: str) -> Any:
        values = {
            "effect_spec": {"idempotency_key": f"k{self.chance.randint(0, 60)}", "n": 1},
            "error_details": {"message": "no"},
            "digest": sha256(b"{}").hexdigest(),
            "size_bytes": 2,
            "source_id": str(new_id()),
            "payload": {"n": 1},
        }
        return values.get(key, "x")

    def spoilt(self, batch: list[Event]) -> list[Event]:
        """With one thing wrong, at its end: so it is all that is wrong."""
        events: list[Event] = json.loads(json.dumps(batch))
        event = events[-1]
        match self.chance.randint(0, 8):
            case 0:
                event["aggregate_version"] += 1
            case 1:
                event["causation_id"] = str(new_id())
            case 2:
                event["correlation_id"] = str(new_id())
            case 3:
                event["event_data"]["colour"] = "red"
            case 4:
                kinds = [name for name, kind in CANON.event_types.items() if kind.aggregate == event["aggregate_type"]]
                event["event_type"] = self.chance.choice(kinds)
            case 5:
                for key in sorted(set(WHOLES) & set(event["event_data"])):
                    event["event_data"][key] = str(new_id())
            case 6:
                for key in event["event_data"]:
                    event["event_data"][key] = self.chance.choice([None, 7, {}, [], "x" * 500])
                    break
            case 7:
                event["occurred_at"] = "infinity"
            case _:
                event["attachment"] = "[1"
        return events

    def disordered(self, batch: list[Event]) -> list[Event]:
        """With an event in another place, or twice."""
        events = list(batch)
        event = events.pop(self.chance.randrange(len(events)))
        events.insert(self.chance.randrange(len(events) + 1), event)
        if self.chance.random() < 0.5:
            events.append(self.chance.choice(events))
        return events


async def sent(connection: asyncpg.Connection, tenant_id: UUID, user_id: UUID, batch: list[Event]) -> Any:
    """What came of it: the answers, or the SQLSTATE of the refusal."""
    try:
        rows = await connection.fetch(APPEND, tenant_id, user_id, json.dumps(batch))
    except asyncpg.PostgresError as refused:
        if refused.sqlstate[:2] not in {"PE", "22", "23"}:
            raise
        return refused.sqlstate
    return sorted((str(row["event_id"]), str(row["aggregate_id"]), row["is_new"]) for row in rows)


def contents(admin: psycopg.Connection, tenant_id: UUID) -> dict[str, list[Any]]:
    """All rows of a tenant; events are named by what they did, since those of cancellations get names of their own."""
    names = {
        str(row[0]): f"{row[1]}/{row[2]}"
        for row in admin.execute(
            "SELECT id, aggregate_id, aggregate_version FROM orchestration_events WHERE tenant_id = %s", (tenant_id,)
        )
    }
    tables: dict[str, list[Any]] = {}
    for table in TABLES:
        order = "sequence_number" if table == "orchestration_events" else "effect_type" if table in STREAMS else "id"
        rows = admin.execute(
            f"SELECT (to_jsonb(t) - %s::text[])::text FROM {table} AS t WHERE tenant_id = %s ORDER BY {order}", (OWN, tenant_id)
        ).fetchall()
        tables[table] = [
            {key: names.get(str(value), _moment(key, value)) for key, value in json.loads(row[0]).items()} for row in rows
        ]
    for row in (row for table in STREAMS for row in tables[table]):
        del row["id"]
    tables["orchestration_events"] = [row for row in tables["orchestration_events"] if row["aggregate_type"] != "TENANT"]
    return tables


def _moment(column: str, value: Any) -> Any:
    """Stories are of yesterday: what is of today, the database has said."""
    return "now" if column.endswith("_at") and str(value) > (datetime.now(UTC) - timedelta(hours=1)).isoformat() else value


@pytest.mark.parametrize("seed", range(4))
async def test_both_ways_leave_the_same(plane: Plane, admin: psycopg.Connection, dsn: str, seed: int) -> None:
    tenants: list[Tenant] = [await plane.tenants.create(f"way-{way}-{seed}", actor="system:test") for way in range(2)]
    story = Story(seed)
    outcomes: list[Any] = []
    connection = await asyncpg.connect(dsn)

    async def both_ways(batch: list[Event], *, alike: bool = True, keep: bool = True) -> Any:
        answers = []
        for tenant, few in zip(tenants, (8, 0), strict=True):
            admin.execute("UPDATE canon.size_limits SET one_by_one = %s", (few,))
            transaction = connection.transaction()
            await transaction.start()
            answers.append(await sent(connection, tenant.tenant_id, plane.settings.user_id, batch))
            await (transaction.commit() if keep and not isinstance(answers[-1], str) else transaction.rollback())
        one, other = answers
        assert one == other or (not alike and isinstance(one, str) and isinstance(other, str)), "\n".join(map(json.dumps, batch))
        outcomes.append(one)
        return one

    try:
        for _ in range(60):
            before = [(life, life.version, life.status, life.last) for life in story.lives]
            batch = story.batch()
            is_lawful = not isinstance(await both_ways(batch, alike=False, keep=False), str)
            if is_lawful and batch:
                await both_ways(story.spoilt(batch), keep=False)
                await both_ways(story.disordered(batch), alike=False, keep=False)
            if is_lawful:
                await both_ways(batch)
                story.learn(admin, tenants[0].tenant_id)
            else:
                story.lives = []
                for life, life.version, life.status, life.last in before:
                    story.lives.append(life)
        one, other = (contents(admin, tenant.tenant_id) for tenant in tenants)
    finally:
        await connection.close()
    for table in TABLES:
        assert one[table] == other[table], table
    refused = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert 20 < len(refused) < len(outcomes) - 20

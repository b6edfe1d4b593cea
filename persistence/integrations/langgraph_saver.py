"""A checkpointer for LangGraph (extra ``langgraph``): graphs whose every superstep is on the record.

A thread is a run of the type ``langgraph``, which waits; what is saved of it are checkpoints of that run, in four kinds by their labels:

- ``langgraph:NS:ID``: a checkpoint without its values, and its metadata;
- ``langgraph-value:NS:CHANNEL:VERSION``: a channel's value at a version, once, however many checkpoints have it;
- ``langgraph-writes:NS:ID:TASK``: what a task wrote after a checkpoint.

NS, CHANNEL and TASK are digests: names of any length and with any character are told apart. A thread that is deleted ends its run; the same id begins
another one then.
"""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, TypeVar, cast
from uuid import UUID, uuid5

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
    writes_sort_key,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from persistence.errors import Conflict, InvalidInput, InvalidTransition
from persistence.integrations.threads import from_thread, running_loop
from persistence.models import Checkpoint as Saved
from persistence.models import Run
from persistence.plane import Plane
from persistence.transaction import Transaction

T = TypeVar("T")

RUN_TYPE: Final = "langgraph"

_CHECKPOINT: Final = "langgraph"
_VALUE: Final = "langgraph-value"
_WRITES: Final = "langgraph-writes"
_LIVES: Final = 8
_TRIES: Final = 5


class PersistenceSaver(BaseCheckpointSaver[str]):
    """Saves what LangGraph asks for, in the name of an actor of a tenant.

    Use the asynchronous methods in the event loop that the plane was opened in; the others from threads, while that loop runs.
    """

    def __init__(
        self, plane: Plane, tenant_id: UUID, *, actor: str, user_id: UUID | None = None, serde: SerializerProtocol | None = None
    ) -> None:
        super().__init__(serde=serde)
        self._plane = plane
        self._tenant_id = tenant_id
        self._actor = actor
        self._user_id = user_id
        self._loop: asyncio.AbstractEventLoop | None = running_loop()

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that is named, or the last one of its namespace; None: there is none."""
        thread_id, ns = _place(config)
        async with self._reading() as tx:
            runs = await self._lives(tx, thread_id)
            checkpoint_id = get_checkpoint_id(config)
            beginning = _label(_CHECKPOINT, ns, checkpoint_id or "")
            if checkpoint_id is None:
                found = await tx.checkpoints.labelled(beginning, runs, limit=1) if runs else []
            else:
                found = list(await _exactly(tx, runs, [beginning]))
            tuples = await self._tuples(tx, found)
        return tuples[0] if tuples else None

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002  it is the interface's word
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, the newest first. filter: their metadata have these values; before: older than this one."""
        given = {} if config is None else config.get("configurable", {})
        last = None if before is None else get_checkpoint_id(before)
        async with self._reading() as tx:
            runs = await self._lives(tx, given["thread_id"]) if "thread_id" in given else None
            beginning = f"{_CHECKPOINT}:" + (f"{_digest(given['checkpoint_ns'])}:" if "checkpoint_ns" in given else "")
            rows = await tx.checkpoints.labelled(beginning, runs) if runs is None or runs else []
            rows = sorted(rows, key=lambda row: str(row.state["id"]), reverse=True)
            wanted = given.get("checkpoint_id")
            rows = [
                row
                for row in rows
                if (last is None or row.state["id"] < last)
                and (wanted is None or row.state["id"] == wanted)
                and self._fits(row, filter or {})
            ][:limit]
            tuples = await self._tuples(tx, rows)
        for one in tuples:
            yield one

    async def aput(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata, new_versions: ChannelVersions
    ) -> RunnableConfig:
        """Saves a checkpoint, and of its values those that are new."""
        thread_id, ns = _place(config)
        parent = get_checkpoint_id(config)
        values = checkpoint["channel_values"]
        versions = checkpoint["channel_versions"]
        # what has no version of its own stands beside the checkpoint itself
        apart = {name: _label(_VALUE, ns, _digest(name), str(versions[name])) for name in values if name in versions}
        state = {
            "thread": thread_id,
            "ns": ns,
            "id": checkpoint["id"],
            "parent": parent,
            "checkpoint": self._dumped({**checkpoint, "channel_values": {k: v for k, v in values.items() if k not in apart}}),
            "metadata": self._dumped(get_checkpoint_metadata(config, metadata)),
            "values": apart,
        }
        label = _label(_CHECKPOINT, ns, checkpoint["id"])

        async def put(tx: Transaction) -> None:
            run = await self._life(tx, thread_id)
            labels = [label, *apart.values()]
            if parent is not None:
                labels.append(_label(_CHECKPOINT, ns, parent))
            there = {row.label: row for row in await _exactly(tx, [run], labels)}
            cause: Run | Saved = run if parent is None else there.get(_label(_CHECKPOINT, ns, parent), run)
            for name, its in apart.items():
                if its not in there:
                    tx.checkpoints.save(run, self._dumped(values[name]), label=its, because=cause)
            if label in there:
                tx.checkpoints.discard(there[label], because=cause)
            tx.checkpoints.save(run, state, label=label, because=cause)

        await self._write(put)
        return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint["id"]}}

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Saves what a task wrote after a checkpoint; what it wrote before stays, but for errors, interrupts and the like: their last counts."""
        thread_id, ns = _place(config)
        checkpoint_id = get_checkpoint_id(config)
        if checkpoint_id is None:
            raise InvalidInput("config: has no checkpoint_id", hint="give the one that put returned", field="checkpoint_id")
        label = _label(_WRITES, ns, checkpoint_id, _digest(task_id))
        new = {str(WRITES_IDX_MAP.get(channel, n)): [channel, self._dumped(value)] for n, (channel, value) in enumerate(writes)}

        async def put(tx: Transaction) -> None:
            run = await self._life(tx, thread_id)
            there = {row.label: row for row in await _exactly(tx, [run], [label, _label(_CHECKPOINT, ns, checkpoint_id)])}
            before = there.get(label)
            old = {} if before is None else before.state["writes"]
            state = {
                "ns": ns,
                "id": checkpoint_id,
                "task": task_id,
                "path": task_path,
                "writes": {**new, **{number: write for number, write in old.items() if int(number) >= 0 or number not in new}},
            }
            if before is not None:
                if before.state == state:
                    return
                tx.checkpoints.discard(before)
            tx.checkpoints.save(run, state, label=label, because=there.get(_label(_CHECKPOINT, ns, checkpoint_id), run))

        await self._write(put)

    async def adelete_thread(self, thread_id: str) -> None:
        """Drops all that is saved of a thread, and ends its run."""

        async def delete(tx: Transaction) -> None:
            for run in await self._lives(tx, thread_id):
                for row in await tx.checkpoints.all(run_id=run.id, status="SAVED"):
                    tx.checkpoints.discard(row)
                tx.runs.cancel(run, {"type": "Deleted", "message": "the thread was deleted"})

        await self._write(delete)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Drops the checkpoints that runs of LangGraph made, by the ``run_id`` of their metadata, and what only they need."""
        if not run_ids:
            return

        async def delete(tx: Transaction) -> None:
            rows = await tx.checkpoints.labelled(f"{_CHECKPOINT}:")
            gone = [row for row in rows if self._loaded(row.state["metadata"]).get("run_id") in set(run_ids)]
            for run_id in {row.run_id for row in gone}:
                await self._drop(tx, await tx.runs.get(run_id), {row.id for row in gone if row.run_id == run_id})

        await self._write(delete)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Saves all that is saved of a thread under another one, too."""

        async def copy(tx: Transaction) -> None:
            sources = await self._lives(tx, source_thread_id)
            if not sources:
                return
            target = await self._life(tx, target_thread_id)
            there = {row.label for row in await tx.checkpoints.all(run_id=target.id, status="SAVED")}
            for run in sources:
                for row in await tx.checkpoints.all(run_id=run.id, status="SAVED"):
                    if row.label not in there:
                        state = {**row.state, "thread": target_thread_id} if "thread" in row.state else row.state
                        tx.checkpoints.save(target, state, label=row.label)

        await self._write(copy)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Drops what is not needed of threads. strategy: ``keep_latest``: the last checkpoint of each namespace stays, with those before it that
        its channels of differences need; ``delete``: nothing stays.
        """
        if strategy not in {"keep_latest", "delete"}:
            raise InvalidInput(f"strategy: {strategy!r} is none", hint="keep_latest or delete", field="strategy")
        if strategy == "delete":
            for thread_id in thread_ids:
                await self.adelete_thread(thread_id)
            return

        async def prune(tx: Transaction) -> None:
            for thread_id in thread_ids:
                for run in await self._lives(tx, thread_id):
                    rows = await tx.checkpoints.labelled(f"{_CHECKPOINT}:", [run])
                    await self._drop(tx, run, {row.id for row in rows} - self._needed(rows))

        await self._write(prune)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return from_thread(self._loop, self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        async def all_of_them() -> Sequence[CheckpointTuple]:
            return [one async for one in self.alist(config, filter=filter, before=before, limit=limit)]

        return iter(from_thread(self._loop, all_of_them()))

    def put(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata, new_versions: ChannelVersions
    ) -> RunnableConfig:
        return from_thread(self._loop, self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = "") -> None:
        from_thread(self._loop, self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        from_thread(self._loop, self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        from_thread(self._loop, self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        from_thread(self._loop, self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        from_thread(self._loop, self.aprune(thread_ids, strategy=strategy))

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Versions count up, in a form whose order as text is that of the numbers."""
        number = 0 if current is None else int(str(current).split(".", maxsplit=1)[0])
        return f"{number + 1:032}"

    async def _drop(self, tx: Transaction, run: Run, gone: set[UUID]) -> None:
        """Drops checkpoints of a thread, what tasks wrote after them, and the values that no other one has."""
        if not gone:
            return
        there = await tx.checkpoints.all(run_id=run.id, status="SAVED")
        kept = [row for row in there if _kind(row) == _CHECKPOINT and row.id not in gone]
        values = {label for row in kept for label in row.state["values"].values()}
        places = {(row.state["ns"], row.state["id"]) for row in kept}
        for row in there:
            if (
                row.id in gone
                or (_kind(row) == _VALUE and row.label not in values)
                or (_kind(row) == _WRITES and (row.state["ns"], row.state["id"]) not in places)
            ):
                tx.checkpoints.discard(row)

    def _needed(self, rows: Iterable[Saved]) -> set[UUID]:
        """Of each namespace the last one, and those before it up to where each of its channels of differences has a value."""
        by_ns: dict[str, dict[str, Saved]] = {}
        for row in rows:
            by_ns.setdefault(row.state["ns"], {})[row.state["id"]] = row
        needed: set[UUID] = set()
        for chain in by_ns.values():
            last = chain[max(chain)]
            counted = self._loaded(last.state["metadata"]).get("counters_since_delta_snapshot") or {}
            lacking = set(counted) - last.state["values"].keys()
            needed.add(last.id)
            while lacking and (before := chain.get(last.state["parent"])) is not None:
                needed.add(before.id)
                lacking -= before.state["values"].keys()
                last = before
        return needed

    async def _tuples(self, tx: Transaction, rows: Sequence[Saved]) -> Sequence[CheckpointTuple]:
        if not rows:
            return []
        runs = [await tx.runs.get(run_id) for run_id in {row.run_id for row in rows}]
        labels = {label for row in rows for label in row.state["values"].values()}
        values = {(row.run_id, row.label): row for row in await _exactly(tx, runs, sorted(labels))}
        written: dict[tuple[UUID, str, str], list[tuple[tuple[str, str, int], tuple[str, str, Any]]]] = {}
        beginnings = {_label(_WRITES, row.state["ns"], row.state["id"], "") for row in rows}
        found = [row for beginning in beginnings for row in await tx.checkpoints.labelled(beginning, runs)]
        for row in found:
            place = written.setdefault((row.run_id, row.state["ns"], row.state["id"]), [])
            for number, (channel, value) in row.state["writes"].items():
                key = writes_sort_key(row.state["path"], row.state["task"], int(number))
                place.append((key, (row.state["task"], channel, self._loaded(value))))
        tuples = []
        for row in rows:
            state = row.state
            checkpoint = cast("Checkpoint", self._loaded(state["checkpoint"]))
            checkpoint["channel_values"] |= {
                name: self._loaded(values[row.run_id, label].state) for name, label in state["values"].items()
            }
            place_of = {"thread_id": state["thread"], "checkpoint_ns": state["ns"]}
            pending = sorted(written.get((row.run_id, state["ns"], state["id"]), ()), key=lambda one: one[0])
            tuples.append(
                CheckpointTuple(
                    config={"configurable": {**place_of, "checkpoint_id": state["id"]}},
                    checkpoint=checkpoint,
                    metadata=self._loaded(state["metadata"]),
                    parent_config=None
                    if state["parent"] is None
                    else {"configurable": {**place_of, "checkpoint_id": state["parent"]}},
                    pending_writes=[write for _, write in pending],
                )
            )
        return tuples

    def _fits(self, row: Saved, wanted: Mapping[str, Any]) -> bool:
        metadata = self._loaded(row.state["metadata"]) if wanted else {}
        return all(name in metadata and metadata[name] == value for name, value in wanted.items())

    def _dumped(self, value: Any) -> dict[str, str]:
        kind, data = self.serde.dumps_typed(value)
        return {"type": kind, "data": b64encode(data).decode()}

    def _loaded(self, stored: Mapping[str, str]) -> Any:
        return self.serde.loads_typed((stored["type"], b64decode(stored["data"])))

    async def _lives(self, tx: Transaction, thread_id: str) -> Sequence[Run]:
        """The run of a thread that is open, if there is one."""
        return [run for run in await self._all_lives(tx, thread_id) if run.status == "WAITING"]

    async def _life(self, tx: Transaction, thread_id: str) -> Run:
        """The run of a thread; begun if there is none."""
        runs = await self._all_lives(tx, thread_id)
        for run in runs:
            if run.status == "WAITING":
                return run
        run = tx.runs.start(run_type=RUN_TYPE, input={"thread_id": thread_id}, run_id=self._run_id(thread_id, len(runs)))
        return tx.runs.suspend(run, "the thread's next turn")

    async def _all_lives(self, tx: Transaction, thread_id: str) -> Sequence[Run]:
        found: list[Run] = []
        for first in range(0, 1_000_000, _LIVES):
            some = await tx.runs.get_many([self._run_id(thread_id, number) for number in range(first, first + _LIVES)])
            found += some
            if len(some) < _LIVES:
                break
        return found

    def _run_id(self, thread_id: str, number: int) -> UUID:
        return uuid5(self._tenant_id, f"langgraph:{number}:{thread_id}")

    def _reading(self) -> Transaction:
        return self._plane.snapshot(self._tenant_id, actor=self._actor, user_id=self._user_id)

    async def _write(self, work: Callable[[Transaction], Coroutine[Any, Any, None]]) -> None:
        """Does it again where somebody else was first: what it saw was not so any more."""
        for left in reversed(range(_TRIES)):
            try:
                async with self._plane.transaction(self._tenant_id, actor=self._actor, user_id=self._user_id) as tx:
                    await work(tx)
            except (Conflict, InvalidTransition):
                if not left:
                    raise
            else:
                return


async def _exactly(tx: Transaction, runs: Sequence[Run], labels: Sequence[str]) -> Sequence[Saved]:
    if not runs or not labels:
        return []
    return await tx.checkpoints.all(run_id=[run.id for run in runs], label=list(labels), status="SAVED")


def _place(config: RunnableConfig) -> tuple[str, str]:
    """Thread and namespace. Raises InvalidInput."""
    given = config.get("configurable", {})
    if "thread_id" not in given:
        raise InvalidInput("config: has no thread_id", hint='{"configurable": {"thread_id": …}}', field="thread_id")
    return str(given["thread_id"]), str(given.get("checkpoint_ns", ""))


def _label(kind: str, ns: str, *parts: str) -> str:
    return ":".join((kind, _digest(ns), *parts))


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:24]


def _kind(row: Saved) -> str:
    return (row.label or "").split(":", 1)[0]

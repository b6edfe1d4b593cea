"""persistence memory: what agents remember, and the indexes that find it by its meaning."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, TypeVar
from uuid import UUID

import typer

from persistence.cli.console import (
    DataDir,
    Format,
    OutputFormat,
    TenantOption,
    console,
    find_tenant,
    parse_id,
    parse_moment,
    plain,
    print_json,
    print_rows,
    run,
    settings_for,
)
from persistence.cli.reading import READER, ask, headline, order, told
from persistence.cli.tenant import operator
from persistence.cli.vault import Code, unlocked
from persistence.configuration import parse_duration
from persistence.errors import ConfigurationError, InvalidInput, NotFound
from persistence.models import Memory, MemoryIndex, Tenant
from persistence.models.memory import CONTEXTS, MemoryContext
from persistence.plane import Plane
from persistence.queries.memories import MemoryStory, memory_story
from persistence.queries.words import clock
from persistence.repositories.memory_search import Extension, MemoryFilter
from persistence.stores.memory import Backends, Comparison, Findings, MemorySearch, Upkeep
from persistence.stores.memory.search import MODES, Mode
from persistence.transaction import Transaction

app = typer.Typer(
    help="What agents remember: search it, look after it, and after the indexes that find it by its meaning.", no_args_is_help=True
)
index = typer.Typer(
    help="Vectors of all memories: made by a model, kept in a store; the one activated last is searched.", no_args_is_help=True
)
app.add_typer(index, name="index")

T = TypeVar("T")

Agent = Annotated[str | None, typer.Option(help="Only of this agent.")]
Context = Annotated[str | None, typer.Option(help="Only learned in this: chat, workflow or doc.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Only with this tag. Several: with all of them.")]
Id = Annotated[str, typer.Argument(help="Id of a memory.")]
IndexId = Annotated[str, typer.Argument(help="Id of an index.")]
WhichIndex = Annotated[str | None, typer.Option("--index", help="Id of an index; none: all that are kept up.")]
Why = Annotated[str, typer.Option("--reason", help="Why. It is on the record.")]


@app.command("search")
def search(
    text: Annotated[str, typer.Argument(help="What is looked for; with --mode words as in a search engine.")],
    mode: Annotated[str, typer.Option(help="both, words or vectors.")] = "both",
    agent: Agent = None,
    context: Context = None,
    tag: Tags = None,
    at: Annotated[str | None, typer.Option(help="What was known, and held, at this moment.")] = None,
    since: Annotated[str | None, typer.Option(help="Learned from then on.")] = None,
    until: Annotated[str | None, typer.Option(help="Learned before.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 10,
    tenant: TenantOption = None,
    code: Code = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Find memories by their words and by their meaning, the best first, and say why each was found."""
    among = MemoryFilter(
        agent,
        _context(context),
        tag or (),
        None if at is None else parse_moment(at, "--at"),
        None if since is None else parse_moment(since, "--since"),
        None if until is None else parse_moment(until, "--until"),
    )

    async def go(backends: Backends, found: Tenant) -> Findings:
        return await MemorySearch(backends).search(found.tenant_id, text, among, actor=READER, mode=_mode(mode), limit=limit)

    findings = _with_backends(go, tenant, data_dir, code)
    if output is Format.JSON:
        print_json(
            {
                "found": [{"score": one.score, "why": dict(one.why), "memory": plain(one.memory)} for one in findings.found],
                "index": findings.index,
                "without": findings.without,
            }
        )
        return
    if findings.without is not None:
        console.print(f"by words only: {findings.without}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    print_rows(
        ("score", "id", "agent", "learned", "text", "why"),
        [
            (f"{one.score:.4f}", one.memory.id, one.memory.agent, clock(one.memory.created_at), one.memory.content, _why(one.why))
            for one in findings.found
        ],
    )


@app.command("list")
def list_(
    agent: Agent = None,
    context: Context = None,
    status: Annotated[str | None, typer.Option(help="ACTIVE, SUPERSEDED, PRUNED or FORGOTTEN.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """List memories, the newest first."""
    wanted: dict[str, Any] = {"agent": agent, "context": _context(context), "status": status}

    async def question(tx: Transaction) -> list[Memory]:
        page = await tx.memories.list(
            limit=limit, newest_first=True, **{name: value for name, value in wanted.items() if value is not None}
        )
        return list(page.items)

    memories = ask(question, tenant, data_dir)
    if output is Format.JSON:
        print_json(memories)
        return
    print_rows(
        ("id", "status", "agent", "context", "learned", "tags", "text"),
        [(m.id, told(m.status), m.agent, m.context, clock(m.created_at), ", ".join(m.tags or ()), m.content) for m in memories],
    )


@app.command("show")
def show(memory_id: Id, tenant: TenantOption = None, data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Show a memory with its history, where it came from and who used it."""
    wanted = parse_id(memory_id, "memory")
    story: MemoryStory = ask(lambda tx: memory_story(tx, wanted), tenant, data_dir)
    if output is Format.JSON:
        print_json(story)
        return
    memory = story.memory
    console.print(headline("memory", memory.agent, memory.status, memory.id))
    console.print(
        memory.content if memory.content is not None else f"forgotten; SHA-256 {memory.digest}", markup=False, highlight=False
    )
    facts = {
        "context": memory.context,
        "tags": ", ".join(memory.tags or ()),
        "learned in run": memory.run_id,
        "importance": memory.importance,
        "holds": f"{clock(memory.valid_from)} to {clock(memory.valid_until) or 'open'}",
        "took the place of": ", ".join(str(one.id) for one in story.earlier),
        "its place was taken by": ", ".join(str(one.id) for one in story.later),
        "vectors in": ", ".join(f"{one.model} {one.id}" for one in story.indexes),
    }
    print_rows(("", ""), [(name, value) for name, value in facts.items() if value not in {None, ""}])
    print_rows(
        ("when", "what", "by", "why"),
        [(clock(e.occurred_at), e.event_type, e.actor, e.event_data.get("reason")) for e in story.events],
    )
    if story.recalls:
        print_rows(("used", "by", "in run"), [(clock(r.created_at), r.agent, r.run_id) for r in story.recalls])


@app.command("remember")
def remember(
    text: Annotated[str, typer.Argument(help="The text, at most 64 KiB.")],
    agent: Annotated[str, typer.Option(help="Whose memory it is.")],
    context: Annotated[str, typer.Option(help="chat, workflow or doc.")] = "doc",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A tag. May be given several times.")] = None,
    importance: Annotated[float | None, typer.Option(min=0, max=1, help="0 to 1.")] = None,
    supersedes: Annotated[str | None, typer.Option(help="Id of the memory whose place it takes.")] = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Write a memory down, and ask for its vectors."""
    before = None if supersedes is None else parse_id(supersedes, "--supersedes")

    async def command(tx: Transaction) -> Memory:
        return tx.memories.remember(
            text,
            agent=agent,
            context=_context(context) or "doc",
            tags=tag or (),
            importance=importance,
            supersedes=None if before is None else await tx.memories.get(before),
        )

    console.print(str(order(command, tenant, data_dir).id), highlight=False)


@app.command("prune")
def prune(memory_id: Id, reason: Why, tenant: TenantOption = None, data_dir: DataDir = None) -> None:
    """Leave a memory aside: it is not found any more, and can be brought back."""
    _change(memory_id, lambda tx, memory: tx.memories.prune(memory, reason), tenant, data_dir)


@app.command("restore")
def restore(memory_id: Id, reason: Why, tenant: TenantOption = None, data_dir: DataDir = None) -> None:
    """Bring back what was left aside."""
    _change(memory_id, lambda tx, memory: tx.memories.restore(memory, reason), tenant, data_dir)


@app.command("forget")
def forget(memory_id: Id, reason: Why, tenant: TenantOption = None, data_dir: DataDir = None) -> None:
    """Drop a memory's text and vectors for good. Its digest stays on the record."""
    _change(memory_id, lambda tx, memory: tx.memories.forget(memory, reason), tenant, data_dir)


@app.command("decay")
def decay(
    half_life: Annotated[str, typer.Option(help="How long until a memory matters half as much, such as 30d.")],
    below: Annotated[
        float,
        typer.Option(min=0, help="What is weaker is left aside; a memory begins at its importance, or 0.5."),
    ] = 0.05,
    reason: Why = "it has not been used for long",
    agent: Agent = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many at once.")] = 1000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which, and leave them.")] = False,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Leave aside what matters least: by importance, age, and how often it was used. Can be undone one by one."""
    try:
        halved = parse_duration(half_life)
    except ValueError as error:
        raise ConfigurationError(f"--half-life: {error}") from None

    if dry_run:

        async def question(tx: Transaction) -> list[tuple[float, Memory]]:
            weak = {hit.id: hit.score for hit in await tx.memories.weakest(halved, agent=agent, limit=limit) if hit.score < below}
            return sorted(((weak[memory.id], memory) for memory in await tx.memories.get_many(list(weak))), key=lambda one: one[0])

        print_rows(
            ("strength", "id", "agent", "learned", "text"),
            [(f"{strength:.4f}", m.id, m.agent, clock(m.created_at), m.content) for strength, m in ask(question, tenant, data_dir)],
        )
        return

    async def command(tx: Transaction) -> list[Memory]:
        return await tx.memories.decay(halved, below=below, reason=reason, agent=agent, limit=limit)

    console.print(f"left {len(order(command, tenant, data_dir))} memories aside", highlight=False)


@app.command("verify")
def verify(
    which: WhichIndex = None,
    tenant: TenantOption = None,
    code: Code = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Hold indexes against the log: each has the vectors of all memories, no more and no less. Exit status 1 when one does not."""

    async def go(backends: Backends, found: Tenant) -> list[Comparison]:
        upkeep = Upkeep(backends)
        return [await upkeep.compare(found.tenant_id, one, actor=READER) for one in await _indexes(backends, found, which)]

    found = _with_backends(go, tenant, data_dir, code)
    _print_comparisons(found, output)
    if not all(one.is_whole for one in found):
        raise typer.Exit(1)


@app.command("rebuild")
def rebuild(
    which: WhichIndex = None,
    tenant: TenantOption = None,
    code: Code = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Drop from indexes what no memory has, and ask for what they lack. A worker makes it."""

    async def go(backends: Backends, found: Tenant) -> list[Comparison]:
        upkeep = Upkeep(backends)
        return [await upkeep.rebuild(found.tenant_id, one, actor=operator()) for one in await _indexes(backends, found, which)]

    _print_comparisons(_with_backends(go, tenant, data_dir, code), output)


@index.command("list")
def index_list(tenant: TenantOption = None, data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """List indexes; the one that is searched first."""

    async def question(tx: Transaction) -> tuple[list[MemoryIndex], list[MemoryIndex], Extension | None]:
        kept = await tx.memory_indexes.kept_up()
        return kept, list(await tx.memory_indexes.all(status="RETIRED")), await tx.memories.pgvector()

    kept, retired, extension = ask(question, tenant, data_dir)
    if output is Format.JSON:
        print_json([*kept, *retired])
        return
    print_rows(
        ("id", "status", "searched", "store", "model", "dimensions", "activated"),
        [
            (
                i.id,
                told(i.status),
                "yes" if n == 0 and i.status == "ACTIVE" else "",
                i.store,
                i.model,
                i.dimensions,
                clock(i.created_at),
                clock(i.activated_at),
            )
            for n, i in enumerate([*kept, *retired])
        ],
    )
    if extension is None or not extension.searches_widely:
        has = "no pgvector" if extension is None else f"pgvector {extension.version}"
        console.print(f"this database has {has}: vectors in it are compared one by one", style="yellow", highlight=False)
        console.print("as a superuser: CREATE EXTENSION vector, 0.8 or newer; then persistence migrate up", highlight=False)


@index.command("build")
def index_build(tenant: TenantOption = None, code: Code = None, data_dir: DataDir = None) -> None:
    """Make a new index as vector_config.yaml says, beside those that are there. A worker fills it; activate it then."""

    async def go(backends: Backends, found: Tenant) -> tuple[MemoryIndex, int]:
        return await Upkeep(backends).begin(found.tenant_id, actor=operator())

    made, asked = _with_backends(go, tenant, data_dir, code)
    console.print(f"index {made.id} of {made.model} in {made.store}; vectors of {asked} memories are asked for", highlight=False)
    console.print(f"then: persistence memory index activate {made.id} --reason …", highlight=False)


@index.command("activate")
def index_activate(
    index_id: IndexId,
    reason: Why,
    partly: Annotated[bool, typer.Option("--partly", help="Even while it lacks vectors.")] = False,
    tenant: TenantOption = None,
    code: Code = None,
    data_dir: DataDir = None,
) -> None:
    """Search this index from now on. What was searched before is kept up, so that one can go back."""
    wanted = parse_id(index_id, "index")

    async def go(backends: Backends, found: Tenant) -> MemoryIndex:
        return await Upkeep(backends).activate(found.tenant_id, wanted, reason, actor=operator(), partly=partly)

    console.print(f"{_with_backends(go, tenant, data_dir, code).id} is searched now", highlight=False)


@index.command("retire")
def index_retire(index_id: IndexId, reason: Why, tenant: TenantOption = None, code: Code = None, data_dir: DataDir = None) -> None:
    """Keep an index up no more, and drop what it has."""
    wanted = parse_id(index_id, "index")

    async def go(backends: Backends, found: Tenant) -> MemoryIndex:
        return await Upkeep(backends).retire(found.tenant_id, wanted, reason, actor=operator())

    console.print(f"{_with_backends(go, tenant, data_dir, code).id} is retired", highlight=False)


def _with_backends(
    work: Callable[[Backends, Tenant], Awaitable[T]], tenant: str | None, data_dir: Path | None, code: str | None
) -> T:
    """Runs what needs models and stores of vectors. Where the vault is set up and one of them asks for a key, it is unlocked."""

    async def go() -> T:
        async with AsyncExitStack() as stack:
            plane = await stack.enter_async_context(Plane(settings=settings_for(data_dir)))
            backends = await stack.enter_async_context(Backends(plane))
            found = await find_tenant(plane, tenant)
            if backends.asks_for_keys:
                await unlocked(plane, code)
            return await work(backends, found)

    return run(go())


async def _indexes(backends: Backends, tenant: Tenant, which: str | None) -> list[MemoryIndex]:
    wanted = None if which is None else parse_id(which, "--index")
    async with backends.plane.snapshot(tenant.tenant_id, actor=READER) as tx:
        there = await tx.memory_indexes.kept_up()
    found = [one for one in there if wanted in {None, one.id}]
    if not found:
        raise NotFound(
            "there is no index of memories yet" if wanted is None else f"there is no index {wanted} that is kept up",
            hint="persistence worker makes the first one; persistence memory index list shows them",
        )
    return found


def _print_comparisons(found: list[Comparison], output: Format) -> None:
    if output is Format.JSON:
        print_json(
            [
                {**vars(one), "index": one.index, "examples": [str(item) for item in one.examples], "whole": one.is_whole}
                for one in found
            ]
        )
        return
    print_rows(
        ("index", "store", "model", "memories", "missing", "of these asked for", "surplus", ""),
        [
            (
                c.index.id,
                c.index.store,
                c.index.model,
                c.memories,
                c.missing,
                c.asked_for,
                c.surplus,
                "whole" if c.is_whole else "differs",
            )
            for c in found
        ],
    )


def _change(memory_id: str, work: Callable[[Transaction, Memory], Memory], tenant: str | None, data_dir: Path | None) -> None:
    wanted: UUID = parse_id(memory_id, "memory")

    async def command(tx: Transaction) -> Memory:
        return work(tx, await tx.memories.get(wanted))

    changed = order(command, tenant, data_dir)
    console.print(f"{changed.id} is {changed.status}", highlight=False)


def _mode(text: str) -> Mode:
    for known in MODES:
        if known == text:
            return known
    raise InvalidInput(f"mode: {text!r} is none", hint=f"one of {', '.join(MODES)}", field="mode")


def _context(text: str | None) -> MemoryContext | None:
    for known in CONTEXTS:
        if known == text:
            return known
    if text is not None:
        raise InvalidInput(f"context: {text!r} is none", hint=f"one of {', '.join(CONTEXTS)}", field="context")
    return None


def _why(reasons: Any) -> str:
    return ", ".join(
        f"{name} {reasons[f'{name}_rank']:.0f} ({reasons[f'{name}_score']:.3f})"
        for name in ("words", "vectors")
        if f"{name}_rank" in reasons
    )

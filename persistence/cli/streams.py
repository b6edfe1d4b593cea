"""persistence streams: what happens in a tenant as it happens, who follows it, and where it is carried."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.text import Text

from persistence.cli.console import (
    DataDir,
    Format,
    OutputFormat,
    TenantOption,
    console,
    find_tenant,
    plain,
    print_json,
    print_rows,
    run,
    settings_for,
)
from persistence.cli.reading import READER
from persistence.cli.tenant import operator
from persistence.cli.worker import stop_on_signals
from persistence.errors import InvalidInput, NotFound, Unavailable
from persistence.models import Channel, Event, Position
from persistence.outbox.nats_handler import NatsConnection, NatsSettings
from persistence.plane import Plane
from persistence.queries.words import clock
from persistence.repositories.streams import COUNTED
from persistence.streams import Hub, Told
from persistence.streams.archive import SEGMENT, Archive, make_key, read_key, read_public_key, verify
from persistence.streams.client import StreamClient
from persistence.streams.feeds import LogFeed, place_of
from persistence.streams.nats import NatsSource, NatsTarget
from persistence.streams.targets import Carrier

app = typer.Typer(
    help="What happens in a tenant as it happens: follow it, tell it, archive it, carry it elsewhere.", no_args_is_help=True
)
consumer = typer.Typer(help="Who follows the log and says how far he is.", no_args_is_help=True)
nats = typer.Typer(help="The log to JetStream, and messages of JetStream into signals.", no_args_is_help=True)
app.add_typer(consumer, name="consumer")
app.add_typer(nats, name="nats")

_AT_ONCE = 500
_SEAL_SECONDS = 300.0
_AGAIN = 1.0

ChannelName = Annotated[
    str, typer.Argument(help="events, type:…, run:ID, correlation:ID, agent:ACTOR, chat:…, logs:…, tokens:… or metrics.")
]
Folder = Annotated[Path, typer.Argument(help="Of the archive.")]
Url = Annotated[str | None, typer.Option(help="nats://host:4222; none: PERSISTENCE_NATS_URL.")]
Stream = Annotated[str, typer.Option(help="The stream's name.")]


@app.command("follow")
def follow(
    channel: ChannelName = "events",
    after: Annotated[str | None, typer.Option(help="Only what comes behind this position; none: what comes from now on.")] = None,
    most: Annotated[int | None, typer.Option("--most", min=1, help="End after so many.")] = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Print what comes in a channel until Ctrl-C. As JSON Lines each has its position: with it, --after goes on where you stopped."""
    found, place = Channel.parse(channel), None if after is None else place_of(after)

    async def go(plane: Plane, tenant_id: UUID) -> None:
        count = 0
        async with Hub(plane) as hub, hub.following(tenant_id, found, place) as follower:
            async for told in follower.told():
                _print(told, output)
                count += bool(told.text)
                if count == most:
                    return

    _for_tenant(go, tenant, data_dir)


@app.command("publish")
def publish(
    channel: ChannelName,
    contents: Annotated[list[str] | None, typer.Argument(help="JSON, or text; none: each line of standard input.")] = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Tell those who follow a channel that is not of the log. Nothing of it is kept for more than ten minutes."""
    found = Channel.parse(channel)

    async def go(plane: Plane, tenant_id: UUID) -> None:
        position = None
        for part in _parts(contents):
            position = await plane.publish(tenant_id, found, *part, actor=operator())
        console.print(str(position), highlight=False)

    _for_tenant(go, tenant, data_dir)


@consumer.command("list")
def list_consumers(tenant: TenantOption = None, data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Who follows the log under a name, and how many events each has not dealt with."""

    async def go(plane: Plane, tenant_id: UUID) -> None:
        async with plane.snapshot(tenant_id, actor=READER) as tx:
            lags = await tx.consumers.list()
        if output is Format.JSON:
            print_json([plain(lag) for lag in lags])
            return
        rows = [
            (
                lag.consumer.name,
                lag.consumer.channel,
                f"{lag.behind}{' or more' if lag.behind >= COUNTED else ''}",
                clock(lag.since) if lag.since else "",
                str(lag.consumer.position),
                lag.consumer.actor,
            )
            for lag in lags
        ]
        print_rows(("name", "channel", "behind", "since", "position", "added by"), rows)

    _for_tenant(go, tenant, data_dir)


@consumer.command("remove")
def remove_consumer(
    name: Annotated[str, typer.Argument(help="Of the consumer.")], tenant: TenantOption = None, data_dir: DataDir = None
) -> None:
    """Forget a consumer and how far he was."""

    async def go(plane: Plane, tenant_id: UUID) -> None:
        async with plane.transaction(tenant_id, actor=operator()) as tx:
            if not await tx.consumers.remove(name):
                raise NotFound(f"there is no consumer {name}", hint="persistence streams consumer list")
        console.print(f"{name} is removed", highlight=False)

    _for_tenant(go, tenant, data_dir)


@app.command("key")
def key(path: Annotated[Path, typer.Argument(help="Where to put it.")]) -> None:
    """Make a key that archives are signed with, and beside it, as .pub, the one to check them with."""
    console.print(f"{make_key(path)} checks what {path} signs", highlight=False, soft_wrap=True)


@app.command("archive")
def archive(
    folder: Folder,
    key_file: Annotated[Path, typer.Option("--key", help="What signs: a file of persistence streams key.")],
    channel: Annotated[str, typer.Option(help="What is archived: a channel of the log.")] = "events",
    segment: Annotated[int, typer.Option(min=1, max=1_000_000, help="Events of one file.")] = SEGMENT,
    until_now: Annotated[bool, typer.Option("--until-now", help="Archive what there is, seal it and end.")] = False,
    url: Annotated[str | None, typer.Option(help="A service to archive from; none: the database.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="A file with the token for --url.")] = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Write the log into files that are signed, until Ctrl-C; it goes on where the folder ends."""
    found = Channel.parse(channel)
    if found.is_live or found.kind == "metrics":
        raise InvalidInput(f"--channel: what is told in {found.kind} is not kept", hint="a channel of the log", field="channel")
    signing = read_key(key_file)
    if url is not None and (token_file is None or until_now):
        raise InvalidInput("--url: needs --token-file, and goes without --until-now", field="url")

    with Archive(folder, signing, str(found), segment=segment) as opened:
        before = opened.position

        async def from_service() -> None:
            assert url is not None
            assert token_file is not None
            async with (
                StreamClient(url, token_file.read_text().strip()) as client,
                aclosing(_remote(client, found, opened)) as batches,
            ):
                await _keep(opened, batches)

        async def from_database(plane: Plane, tenant_id: UUID) -> None:
            if until_now:
                await _catch_up(plane, tenant_id, found, opened)
            else:
                async with Hub(plane) as hub, hub.following(tenant_id, found, opened.position) as follower:
                    await _keep(opened, _local(follower.batches(_AT_ONCE)))

        try:
            if url is not None:
                run(_until_stopped(from_service()))
            else:
                _for_tenant(from_database, tenant, data_dir)
        finally:
            opened.seal()
        console.print(f"archived from {before} to {opened.position}", highlight=False)


@app.command("verify")
def verify_archive(
    folder: Folder,
    public_key: Annotated[Path, typer.Option("--public-key", help="The file .pub beside the key that signed.")],
    reaches: Annotated[
        str | None, typer.Option(help="A position that it must reach: what was cut off at its end is found by nothing else.")
    ] = None,
) -> None:
    """Check an archive: every signature, every digest, and that nothing is missing between them. Exit status 1 where something is wrong."""
    verdict = verify(folder, read_public_key(public_key), reaches=None if reaches is None else Position.of(reaches, "reaches"))
    for problem in verdict.problems:
        console.print(f"✗ {problem}", highlight=False, soft_wrap=True)
    if verdict.problems:
        console.print("the archive is not what was written", highlight=False)
    console.print(
        f"{verdict.segments} segments with {verdict.events} events to {verdict.last}, {verdict.unsealed} more that are not sealed yet",
        highlight=False,
    )
    if verdict.problems:
        raise typer.Exit(1)


@nats.command("publish")
def nats_publish(
    name: Annotated[str, typer.Option(help="Of the consumer that keeps how far it is.")] = "nats",
    channel: Annotated[str, typer.Option(help="What is carried: a channel of the log.")] = "events",
    create: Annotated[bool, typer.Option("--create", help="Make the stream unless it is there.")] = False,
    stream: Stream = "persistence",
    url: Url = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Carry the log to JetStream until Ctrl-C: each event is kept there once, in the order of the log, as PREFIX.log.EVENT_TYPE."""
    found = Channel.parse(channel)

    async def go(plane: Plane, tenant_id: UUID) -> None:
        async with NatsConnection(_nats_settings(url)) as connection, Hub(plane) as hub:
            target = NatsTarget(connection)
            carrier = Carrier(plane, hub, target, name=name, channel=found, actor=operator())
            if create:
                await _again(lambda: target.make_stream(tenant_id, stream))
            await _again(lambda: carrier.run(tenant_id))

    _for_tenant(go, tenant, data_dir)


@nats.command("stream")
def nats_stream(
    name: Annotated[str, typer.Argument(help="Of the stream.")],
    subject: Annotated[str, typer.Argument(help="Of the tenant's subjects: the stream takes all below it.")],
    url: Url = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Make a stream that takes PREFIX.SUBJECT.> of a tenant, unless it is there: for what NATS_PUBLISH effects send."""

    async def go(_: Plane, tenant_id: UUID) -> None:
        async with NatsConnection(_nats_settings(url)) as connection:
            await NatsTarget(connection).make_stream(tenant_id, name, subject)
        console.print(f"{name} takes {subject}.>", highlight=False)

    _for_tenant(go, tenant, data_dir)


@nats.command("receive")
def nats_receive(
    stream: Stream,
    durable: Annotated[str, typer.Option(help="The name under which JetStream keeps how far this is.")] = "persistence",
    subject: Annotated[str, typer.Option(help="Which of the stream's messages.")] = ">",
    url: Url = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Take messages of a stream in as signals, each once, until Ctrl-C."""

    async def go(plane: Plane, tenant_id: UUID) -> None:
        async with NatsConnection(_nats_settings(url)) as connection:
            await NatsSource(connection, plane, stream=stream, durable=durable, actor=operator()).run(tenant_id, subject)

    _for_tenant(go, tenant, data_dir)


def _for_tenant(work: Callable[[Plane, UUID], Coroutine[Any, Any, None]], tenant: str | None, data_dir: Path | None) -> None:
    async def go() -> None:
        async with AsyncExitStack() as stack:
            plane = await stack.enter_async_context(Plane(settings=settings_for(data_dir)))
            found = await find_tenant(plane, tenant)
            await _until_stopped(work(plane, found.tenant_id))

    run(go())


async def _until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Does the work until it ends, or somebody says stop. Raises what the work raises."""
    stop = stop_on_signals()
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return
    working.result()


async def _again(work: Callable[[], Awaitable[None]]) -> None:
    """Does it, again and again while what it needs is away."""
    while True:
        try:
            await work()
            return
        except Unavailable as error:
            console.print(f"{error.message}; {error.hint}", highlight=False, soft_wrap=True)
            await asyncio.sleep(_AGAIN)


async def _keep(opened: Archive, batches: AsyncGenerator[Sequence[tuple[Event, Position]]]) -> None:
    """Adds what comes; seals what has lain open for five minutes."""
    loop = asyncio.get_running_loop()
    sealed = loop.time()
    async for batch in batches:
        await asyncio.to_thread(opened.add, batch)
        if loop.time() - sealed > _SEAL_SECONDS:
            await asyncio.to_thread(opened.seal)
            sealed = loop.time()


async def _catch_up(plane: Plane, tenant_id: UUID, channel: Channel, opened: Archive) -> None:
    feed = LogFeed(plane, tenant_id, plane.settings.service_user)
    place, is_last = opened.position, False
    while not is_last:
        page = await feed.read(place, [channel])
        found = [
            (entry.event, entry.position)
            for entry in page.entries
            if channel in entry.channels and entry.event is not None and isinstance(entry.position, Position)
        ]
        opened.add(found)
        assert isinstance(page.end, Position)
        place, is_last = page.end, page.is_last


async def _local(batches: AsyncGenerator[list[Told]]) -> AsyncGenerator[Sequence[tuple[Event, Position]]]:
    async with aclosing(batches):
        async for batch in batches:
            yield [(told.event, told.position) for told in batch if told.event is not None and isinstance(told.position, Position)]


async def _remote(client: StreamClient, channel: Channel, opened: Archive) -> AsyncGenerator[Sequence[tuple[Event, Position]]]:
    async with aclosing(client.follow(str(channel), after=str(opened.position))) as heard:
        async for one in heard:
            if one.event is not None:
                yield [(one.event, Position.parse(one.position))]


def _print(told: Told, output: Format) -> None:
    if output is Format.JSON:
        content = f',"{told.what}":{told.text}' if told.text else ""
        sys.stdout.write(f'{{"is":"{told.what}","position":"{told.position}"{content}}}\n')
        sys.stdout.flush()
        return
    if told.event is not None:
        event = told.event
        console.print(
            Text.assemble(
                (f"{clock(event.occurred_at)} ", "dim"),
                f"{event.event_type:<24} ",
                (f"{event.aggregate_id} ", "dim"),
                (f"by {event.actor}", "cyan"),
            ),
            soft_wrap=True,
        )
    elif told.what == "message":
        said = json.loads(told.text)
        content = said["content"] if isinstance(said["content"], str) else json.dumps(said["content"])
        console.print(Text.assemble((f"{said['channel']} ", "dim"), (f"{said['actor']} ", "cyan"), content), soft_wrap=True)
    else:
        console.print(Text(told.text or told.what.replace("_", " "), style="dim"), soft_wrap=True)


def _parts(contents: list[str] | None) -> list[list[Any]]:
    given = [line.rstrip("\n") for line in sys.stdin] if contents is None else contents
    found = [_content(text) for text in given if text]
    if not found:
        raise InvalidInput("contents: there are none", hint="JSON or text, as arguments or lines", field="contents")
    return [found[begin : begin + _AT_ONCE] for begin in range(0, len(found), _AT_ONCE)]


def _content(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _nats_settings(url: str | None) -> NatsSettings:
    given = NatsSettings()
    return given if url is None else given.model_copy(update={"url": url})

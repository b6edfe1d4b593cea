"""LangGraph on the plane: its own conformance suite, and graphs as people write them."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Any, TypedDict

import asyncpg
import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, interrupt

from persistence import Plane
from persistence.errors import InvalidInput
from persistence.gates.replay import verify
from persistence.integrations.langgraph_saver import PersistenceSaver
from persistence.models import Tenant
from tests.helpers import ACTOR


async def test_the_checkpointer_passes_the_conformance_suite_whole(plane: Plane, tenant: Tenant) -> None:
    @checkpointer_test(name="persistence")
    async def made() -> AsyncGenerator[BaseCheckpointSaver[str], None]:
        yield PersistenceSaver(plane, tenant.tenant_id, actor=ACTOR)

    report = await validate(made)
    failures = {f"{name}: {failure}" for name, result in report.results.items() for failure in result.failures or ()}
    assert failures == set()
    assert {name for name, result in report.results.items() if result.tests_passed} == {str(one.value) for one in ALL_CAPABILITIES}
    assert sum(result.tests_passed for result in report.results.values()) >= 81


class State(TypedDict):
    messages: Annotated[list[Any], add_messages]
    approved: bool


def graph(saver: BaseCheckpointSaver[str]) -> Any:
    def ask(state: State) -> dict[str, Any]:
        return {"messages": [("ai", "shall I?")]}

    def decide(state: State) -> dict[str, Any]:
        return {"approved": interrupt("yes or no") == "yes"}

    built = StateGraph(State)
    built.add_node("ask", ask)
    built.add_node("decide", decide)
    built.add_edge(START, "ask")
    built.add_edge("ask", "decide")
    built.add_edge("decide", END)
    return built.compile(checkpointer=saver)


def thread(name: str) -> Any:
    return {"configurable": {"thread_id": name}}


async def test_a_graph_is_interrupted_goes_on_elsewhere_and_back_in_time(plane: Plane, tenant: Tenant) -> None:
    first = graph(PersistenceSaver(plane, tenant.tenant_id, actor=ACTOR))
    stopped = await first.ainvoke({"messages": [("user", "pay the bill")]}, thread("a"))
    assert stopped["__interrupt__"][0].value == "yes or no"
    elsewhere = graph(PersistenceSaver(plane, tenant.tenant_id, actor="agent:other"))
    done = await elsewhere.ainvoke(Command(resume="yes"), thread("a"))
    assert (done["approved"], [message.content for message in done["messages"]]) == (True, ["pay the bill", "shall I?"])
    history = [state async for state in elsewhere.aget_state_history(thread("a"))]
    asked = next(state for state in history if state.next == ("decide",))
    fork = await elsewhere.aupdate_state(asked.config, None)
    assert "__interrupt__" in await elsewhere.ainvoke(None, fork)
    again = await elsewhere.ainvoke(Command(resume="no"), thread("a"))
    assert again["approved"] is False
    assert (await elsewhere.aget_state(thread("a"))).values["approved"] is False
    assert len([state async for state in elsewhere.aget_state_history(thread("a"))]) > len(history)


async def test_a_graph_is_on_the_record_and_replays(plane: Plane, tenant: Tenant, audit_dsn: str) -> None:
    saver = PersistenceSaver(plane, tenant.tenant_id, actor=ACTOR)
    await graph(saver).ainvoke({"messages": [("user", "x" * 5000)]}, thread("a"))
    async with plane.snapshot(tenant.tenant_id, actor=ACTOR) as tx:
        [run] = await tx.runs.all(run_type="langgraph")
        events = await tx.events.of_correlations(run.correlation_id)
        saved = await tx.checkpoints.all(run_id=run.id, status="SAVED")
    assert (run.status, run.input_data) == ("WAITING", {"thread_id": "a"})
    assert {event.actor for event in events} == {ACTOR}
    assert "xxxxx" not in str([event.event_data for event in events])
    messages = [row for row in saved if row.label and row.label.startswith("langgraph-value") and row.size_bytes > 5000]
    assert 1 <= len(messages) <= 3  # once for each version, however many checkpoints have it
    connection = await asyncpg.connect(audit_dsn)
    assert (await verify(connection)).different == 0
    await connection.close()


async def test_threads_from_threads(plane: Plane, tenant: Tenant) -> None:
    saver = PersistenceSaver(plane, tenant.tenant_id, actor=ACTOR)
    app = graph(saver)
    await asyncio.to_thread(app.invoke, {"messages": [("user", "hi")]}, thread("a"))
    done = await asyncio.to_thread(app.invoke, Command(resume="yes"), thread("a"))
    assert done["approved"] is True
    assert len(await asyncio.to_thread(lambda: list(saver.list(thread("a"))))) == 4
    with pytest.raises(InvalidInput, match="asynchronous"):
        saver.get_tuple(thread("a"))


async def test_many_branches_at_once_lose_nothing(plane: Plane, tenant: Tenant) -> None:
    class Numbers(TypedDict):
        numbers: Annotated[list[int], lambda a, b: a + b]

    built = StateGraph(Numbers)
    for n in range(20):
        built.add_node(f"n{n}", lambda state, n=n: {"numbers": [n]})
        built.add_edge(START, f"n{n}")
    app = built.compile(checkpointer=PersistenceSaver(plane, tenant.tenant_id, actor=ACTOR))
    await asyncio.gather(*(app.ainvoke({"numbers": []}, thread(f"t{n}")) for n in range(5)))
    for n in range(5):
        assert sorted((await app.aget_state(thread(f"t{n}"))).values["numbers"]) == list(range(20))


async def test_a_thread_that_is_deleted_is_gone_and_its_name_is_free(plane: Plane, tenant: Tenant) -> None:
    saver = PersistenceSaver(plane, tenant.tenant_id, actor=ACTOR)
    app = graph(saver)
    for n in range(10):
        await app.ainvoke({"messages": [("user", f"turn {n}")]}, thread("a"))
        await saver.adelete_thread("a")
        assert await saver.aget_tuple(thread("a")) is None
    await app.ainvoke({"messages": [("user", "again")]}, thread("a"))
    assert len((await app.aget_state(thread("a"))).values["messages"]) == 2
    async with plane.snapshot(tenant.tenant_id, actor=ACTOR) as tx:
        assert await tx.runs.count(run_type="langgraph", status="CANCELLED") == 10
        gone = await tx.checkpoints.all(status="DISCARDED")
    assert gone
    assert all(row.state is None for row in gone)


async def test_another_tenant_has_no_part_in_a_thread(plane: Plane, tenant: Tenant) -> None:
    other = await plane.tenants.create("other", actor=ACTOR)
    await graph(PersistenceSaver(plane, tenant.tenant_id, actor=ACTOR)).ainvoke({"messages": [("user", "hi")]}, thread("a"))
    theirs = PersistenceSaver(plane, other.tenant_id, actor=ACTOR)
    assert await theirs.aget_tuple(thread("a")) is None
    assert [one async for one in theirs.alist(None)] == []
    await theirs.adelete_thread("a")
    ours = PersistenceSaver(plane, tenant.tenant_id, actor=ACTOR)
    assert await ours.aget_tuple(thread("a")) is not None


async def test_names_of_any_kind_are_told_apart(plane: Plane, tenant: Tenant) -> None:
    saver = PersistenceSaver(plane, tenant.tenant_id, actor=ACTOR)
    app = graph(saver)
    names = ["a:b", "a", "a%", "a_", "é" * 500, "", "x\n1"]
    for name in names:
        await app.ainvoke({"messages": [("user", name)]}, thread(name))
    for name in names:
        assert (await app.aget_state(thread(name))).values["messages"][0].content == name


async def test_what_lacks_a_thread_is_refused_by_name(plane: Plane, tenant: Tenant) -> None:
    saver = PersistenceSaver(plane, tenant.tenant_id, actor=ACTOR)
    with pytest.raises(InvalidInput, match="thread_id"):
        await saver.aget_tuple({"configurable": {}})
    with pytest.raises(InvalidInput, match="checkpoint_id"):
        await saver.aput_writes(thread("a"), [("x", 1)], "task")
    with pytest.raises(InvalidInput, match="strategy"):
        await saver.aprune(["a"], strategy="some")

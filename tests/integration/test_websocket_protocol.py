"""The protocol itself: the cases of Autobahn, against the server as it serves."""

import asyncio

import pytest
from kosoku import FailureError, run_fuzzingclient
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from persistence.service.server import listen, serve

LARGE = 32 * 1024 * 1024


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    while (message := await socket.receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await socket.send_text(message["text"])
        else:
            await socket.send_bytes(message["bytes"])


@pytest.mark.parametrize(
    "cases",
    [["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"], pytest.param(["9.*", "12.*", "13.*"], marks=pytest.mark.slow)],
    ids=["all", "large and compressed"],
)
async def test_no_case_of_autobahn_fails(cases: list[str]) -> None:
    app, stop = Starlette(routes=[WebSocketRoute("/", echo)]), asyncio.Event()
    app.state.stopping = asyncio.Event()
    with listen("127.0.0.1", 0) as listening:
        running = asyncio.create_task(serve(app, listening, stop, largest_frame=LARGE))
        try:
            results = await run_fuzzingclient(listening.url.replace("http", "ws"), cases=cases, concurrency=2)
        except FailureError as error:
            results = error.results
        finally:
            stop.set()
            await running
    verdicts = {result.case_id: (result.behavior.value, result.behavior_close.value) for result in results}
    failed = {case: verdict for case, verdict in verdicts.items() if "FAILED" in str(verdict) or "ERROR" in str(verdict)}
    assert failed == {}
    assert len(verdicts) > 50

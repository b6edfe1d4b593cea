"""The service against its own OpenAPI document, by schemathesis, with the tokens of two tenants."""

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import schemathesis
import schemathesis.specs.openapi.adapter  # now, and not when it is first needed, deep down the stack
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from persistence import Plane
from persistence.database.embedded import AUDIT_LOGIN, SERVICE_LOGIN
from persistence.models import Role
from persistence.sample import play
from persistence.vault import Opener
from tests.serving import serving


@contextmanager
def served(dsn: str, admin_dsn: str) -> Iterator[SimpleNamespace]:
    """The service on a loop of its own, with two tenants that have a history each."""
    ready, stop = threading.Event(), asyncio.Event()
    place = SimpleNamespace()

    async def run() -> None:
        async with Plane(
            dsn=dsn,
            admin_dsn=admin_dsn,
            audit_dsn=dsn.replace(SERVICE_LOGIN, AUDIT_LOGIN),
            data_dir=folder,
            pool_max=20,
            metrics_token="m",
        ) as plane:
            plane.vault.vault.create([Opener("environment", bytearray(range(32)))])
            await plane.vault.changed("created")
            tenants = [await plane.tenants.create(name, actor="system:test") for name in ("acme", "other")]
            for tenant in tenants:
                await play(plane, tenant.tenant_id)
            async with serving(plane, requests_per_second=100_000, failures_per_minute=10_000_000) as service:
                place.url = service.url
                place.tokens = [await service.token(tenant, Role.ADMIN) for tenant in tenants]
                place.tenants = [str(tenant.tenant_id) for tenant in tenants]
                place.stop = lambda: place.loop.call_soon_threadsafe(stop.set)
                place.loop = asyncio.get_running_loop()
                ready.set()
                await stop.wait()

    folder = tempfile.mkdtemp()
    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(60)
    yield place
    place.stop()
    thread.join(60)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def service(dsn: str, admin_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    monkeypatch.setattr(
        "persistence.service.token_cache._PATIENCE_WHILE_SLOW", 60.0
    )  # a machine whose cores are all busy is no slow database
    with served(dsn, admin_dsn) as place:
        yield place


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
def test_every_answer_is_as_documented(service: SimpleNamespace, who: int) -> None:
    """No 5xx, no status, type or shape that the document does not name; and nothing of the other tenant in any answer."""
    token, other = service.tokens[who], service.tenants[1 - who]
    schema = schemathesis.openapi.from_url(f"{service.url}/v1/openapi.json").exclude(path_regex="/stream$")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 25
    for operation in operations:
        _try(operation, token, other)


def _try(operation: Any, token: str, other: str) -> None:
    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        answer = case.call(headers={"Authorization": f"Bearer {'m' if case.path == '/metrics' else token}"})
        # What fits the schema may still be refused: a signal without a name, a filter by a status that there is not, a version that is not meant.
        case.validate_response(answer, excluded_checks=[positive_data_acceptance])
        assert answer.status_code < 500, answer.text
        assert other not in answer.text

    check()

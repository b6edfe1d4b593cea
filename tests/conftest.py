"""One throw-away server for all tests, a migrated template, and a database of its own for each test that asks for one.

The plane connects as an ordinary login with the service roles; `admin` is the superuser, for planting faults and moving time.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from pytest_postgresql import factories

from persistence import Plane
from persistence.database.embedded import AUDIT_LOGIN, SERVICE_LOGIN, EmbeddedServer
from persistence.database.migrator import Migrator
from persistence.database.server import create_logins
from persistence.models import Tenant

SHARED_DATA = Path(__file__).parent.parent.parent / "shared" / "data"


@dataclass(frozen=True)
class TestServer:
    """Where the server listens, in the words of pytest-postgresql."""

    __test__ = False

    host: str
    port: int = 5432
    user: str = "postgres"
    password: str | None = None
    options: str = ""
    maintenance_dbname: str = "postgres"
    template_dbname: str | None = None


@pytest.fixture(scope="session")
def test_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("server"), durable=False) as server:
        yield TestServer(host=str(server.socket_dir))


def migrated(host: str, dbname: str, **_: object) -> None:
    """Loads the template."""
    admin_dsn = f"postgresql://postgres@/{dbname}?host={host}"
    Migrator(admin_dsn).up()
    create_logins(admin_dsn)


template = factories.postgresql_noproc(depends_on="test_server", dbname="plane", load=[migrated])
postgresql = factories.postgresql("template")


@pytest.fixture
def admin(postgresql: psycopg.Connection) -> psycopg.Connection:
    """The superuser, whom row level security does not hold."""
    postgresql.autocommit = True
    postgresql.execute("SET search_path = persistence")
    return postgresql


@pytest.fixture
def admin_dsn(postgresql: psycopg.Connection) -> str:
    return f"postgresql://postgres@/{postgresql.info.dbname}?host={postgresql.info.host}"


@pytest.fixture
def dsn(postgresql: psycopg.Connection) -> str:
    """An ordinary login with the roles of services, workers and operators."""
    return f"postgresql://{SERVICE_LOGIN}@/{postgresql.info.dbname}?host={postgresql.info.host}"


@pytest.fixture
def audit_dsn(postgresql: psycopg.Connection) -> str:
    """An ordinary login that sees all tenants and changes nothing."""
    return f"postgresql://{AUDIT_LOGIN}@/{postgresql.info.dbname}?host={postgresql.info.host}"


@pytest.fixture
async def plane(dsn: str, admin_dsn: str, audit_dsn: str, tmp_path: Path) -> AsyncIterator[Plane]:
    async with Plane(dsn=dsn, admin_dsn=admin_dsn, audit_dsn=audit_dsn, data_dir=tmp_path / "data", retry_for=5) as opened:
        yield opened


@pytest.fixture
async def tenant(plane: Plane) -> Tenant:
    return await plane.tenants.create("acme", actor="system:test")


@pytest.fixture
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real data are not at {SHARED_DATA}")
    return SHARED_DATA

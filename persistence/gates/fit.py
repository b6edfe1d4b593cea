"""Running checks: read-only, time-limited, several at a time, each in a snapshot of its own."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import md5
from typing import Any, Final, Literal

import asyncpg
import psycopg

from persistence.canon import CANON
from persistence.database.failures import DATABASE_ERRORS, translated
from persistence.database.migrator import head_revision
from persistence.database.pool import connected
from persistence.database.server import open_server
from persistence.database.sql_files import SQL, read
from persistence.encoding import encode
from persistence.errors import ConfigurationError, PersistenceError, ServerError
from persistence.gates.checks import ALWAYS, WHOLE, Check
from persistence.gates.replay import Scope, check_auditor, compare
from persistence.gates.statements import plans, shipped_statements
from persistence.settings import Settings

Verdict = Literal["passed", "violated", "failed", "skipped"]
"""failed: the check could not be run, so nothing is known. skipped: it was not asked for here."""

_FUNCTION: Final = re.compile(
    r"^CREATE (FUNCTION|AGGREGATE) persistence\.(\w+)\((.*?)(?:^AS \$\$\n(.*?)^\$\$;|^(RETURN .*?);$|\);$)",
    re.DOTALL | re.MULTILINE,
)
_SETTING: Final = re.compile(r"^SET (\w+) = (.*?)(?:  --.*)?$", re.MULTILINE)

_LIMITS: Final = "SELECT set_config('statement_timeout', $1, true), set_config('work_mem', '64MB', true), set_config('lock_timeout', '10s', true)"

# Names come out whole, and nothing is found by an unqualified name but the catalogue and temporary tables.
_PATH: Final = "SET LOCAL search_path = pg_catalog, pg_temp"

# What a check returns, but never more than memory and reader can bear.
_SOME: Final = "SELECT * FROM (\n{check}\n) AS violation LIMIT $1"

# A tenant that has something to be seen, for probes that need one.
_SOME_TENANT: Final = """
SELECT coalesce(
  (SELECT r.tenant_id::text FROM persistence.runs AS r LIMIT 1),
  (SELECT max(t.tenant_id::text) FROM persistence.tenants AS t),
  '00000000-0000-0000-0000-000000000000'
)
"""


@dataclass(frozen=True)
class Violation:
    """What breaks the law, and how. path, line: for code."""

    object: str
    detail: str
    path: str | None = None
    line: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of one check. violations: the first of them; more: whether there were others. problem: why it was not run."""

    check: Check
    verdict: Verdict
    seconds: float = 0.0
    violations: Sequence[Violation] = ()
    more: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class Options:
    """How checks are run.

    timeout: seconds for one check. jobs: checks at a time. limit: violations kept of each. schemas: whose tables are looked at.
    since, sample: what checks that read much confine themselves to; sample in percent.
    """

    timeout: float = 900.0
    jobs: int = 2
    limit: int = 100
    schemas: tuple[str, ...] = ("persistence",)
    since: datetime | None = None
    sample: float = 100.0

    @property
    def is_confined(self) -> bool:
        """Whether not everything is looked at."""
        return self.since is not None or self.sample < WHOLE

    def __post_init__(self) -> None:
        if not 0 < self.sample <= 100:
            raise ConfigurationError(f"sample: {self.sample} is not above 0 and at most 100 percent")
        for name in ("timeout", "jobs", "limit"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"{name}: must be more than 0")
        for schema in self.schemas:
            if "," in schema:
                raise ConfigurationError(f"schema: {schema!r} has a comma in it", hint="name each with its own --schema")


@dataclass
class Runner:
    """Runs checks against one database.

    audit_dsn: a login with persistence_auditor. service_dsn: that of a service, for the checks that ask as one; None skips those.
    """

    audit_dsn: str
    service_dsn: str | None
    settings: Settings
    options: Options = field(default_factory=Options)

    async def run(self, checks: Sequence[Check], done: Callable[[Outcome], None] | None = None) -> list[Outcome]:
        """The outcomes in the order of the checks; each is told to ``done`` when it comes.

        Raises ServerError when the database cannot be reached, PermissionDenied when the login does not see all tenants.
        """
        variables = await self._variables(checks)
        places = asyncio.Semaphore(self.options.jobs)

        async def one(check: Check) -> Outcome:
            async with places:
                outcome = await self._outcome(check, variables)
            if done:
                done(outcome)
            return outcome

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(check)) for check in checks]
        return [task.result() for task in tasks]

    async def _variables(self, checks: Sequence[Check]) -> dict[str, Any]:
        try:
            async with connected(self.audit_dsn, self.settings) as connection:
                await check_auditor(connection)
                variables = check_variables(self.options)
                variables["tenant"] = await connection.fetchval(_SOME_TENANT)
        except DATABASE_ERRORS as error:
            raise translated(error) from error
        if self.service_dsn and any(check.needs == "plans" for check in checks):
            try:
                variables["plans"] = encode(await asyncio.to_thread(plans, self.service_dsn, shipped_statements()))
            except psycopg.Error as error:
                raise ServerError(f"cannot reach the server: {error}".strip(), hint="check PERSISTENCE_DSN") from error
        return variables

    async def _outcome(self, check: Check, variables: dict[str, Any]) -> Outcome:
        dsn = self.audit_dsn if check.login == "auditor" else self.service_dsn
        if dsn is None:
            return Outcome(check, "skipped", problem="asks as a service: set PERSISTENCE_DSN")
        begun = time.monotonic()
        try:
            async with connected(dsn, self.settings) as connection:
                violations = await self._violations(connection, check, variables)
        except (PersistenceError, *DATABASE_ERRORS) as error:
            return Outcome(check, "failed", time.monotonic() - begun, problem=str(translated(error)))
        seconds = time.monotonic() - begun
        limit = self.options.limit
        return Outcome(check, "violated" if violations else "passed", seconds, violations[:limit], len(violations) > limit)

    async def _violations(self, connection: asyncpg.Connection, check: Check, variables: dict[str, Any]) -> list[Violation]:
        # A fold needs temporary tables, which a read-only transaction may not make; it is rolled back all the same.
        transaction = connection.transaction(isolation="repeatable_read", readonly=check.needs != "fold")
        await transaction.start()
        try:
            await connection.execute(_LIMITS, str(round(self.options.timeout * 1000)))
            return await violations_of(connection, check, variables, self.options)
        finally:
            if not connection.is_closed():
                await transaction.rollback()


@asynccontextmanager
async def open_runner(
    settings: Settings, options: Options, audit_dsn: str | None = None, service_dsn: str | None = None
) -> AsyncIterator[Runner]:
    """A runner for the database that is named here, or by the settings; for the embedded one where neither does."""
    service = service_dsn or (settings.dsn.get_secret_value() if settings.dsn else None)
    if audit_dsn is None and settings.audit_dsn:
        audit_dsn = settings.audit_dsn.get_secret_value()
    if audit_dsn is not None:
        yield Runner(audit_dsn, service, settings, options)
        return
    async with open_server(settings) as server:
        yield Runner(server.audit_dsn, service or (server.dsn if server.is_embedded else None), settings, options)


async def violations_of(
    connection: asyncpg.Connection, check: Check, variables: dict[str, Any], options: Options
) -> list[Violation]:
    """What a check finds in the transaction that the connection is in: one more than ``options.limit`` at most."""
    if check.needs == "fold":
        await compare(connection, Scope(None, options.since, options.sample))
    await connection.execute(_PATH)
    rows = await connection.fetch(_SOME.replace("{check}", check.statement(variables)), options.limit + 1)
    if rows and set(rows[0].keys()) != {"object", "detail"}:
        raise ConfigurationError(f"{check.path}: returns {', '.join(rows[0].keys())}", hint="a check returns object and detail")
    return [Violation(str(row["object"]), str(row["detail"] or "")) for row in rows]


def check_variables(options: Options) -> dict[str, Any]:
    """The variables of checks, but for those that need a database."""
    return {
        "since": options.since.isoformat() if options.since else ALWAYS,
        "sample": options.sample,
        "schemas": ",".join(options.schemas),
        "canon": encode(CANON.reference_rows()),
        "functions": encode(_shipped_functions()),
        "head": head_revision(),
        "tenant": "00000000-0000-0000-0000-000000000000",
        "plans": "[]",
    }


def _shipped_functions() -> list[dict[str, Any]]:
    """The newest version of each function: the digest of its body, whether it lends its owner's rights, its settings."""
    newest: dict[str, tuple[int, str]] = {}
    for path in (SQL / "functions").glob("*.sql"):
        name, version = path.name.split(".")[:2]
        number = int(version.removeprefix("v"))
        if number > newest.get(name, (0, ""))[0]:
            newest[name] = number, path.name
    return [_shipped_function(found) for _, file in newest.values() for found in _FUNCTION.finditer(read(f"functions/{file}"))]


def _shipped_function(found: re.Match[str]) -> dict[str, Any]:
    kind, name, head, quoted, bound = found.groups()
    body = quoted or bound or ""
    return {
        "name": name,
        "body_md5": md5(body.strip(" \n").encode(), usedforsecurity=False).hexdigest() if kind == "FUNCTION" else None,
        "is_definer": "SECURITY DEFINER" in head,
        "config": sorted(f"{setting}={value.strip()}" for setting, value in _SETTING.findall(head)),
    }

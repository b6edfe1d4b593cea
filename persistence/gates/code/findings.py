"""What the syntax tree of one module shows."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from persistence.canon import CANON

DRIVERS: Final = frozenset(
    {
        "asyncpg",
        "psycopg",
        "psycopg2",
        "psycopg_pool",
        "pg8000",
        "aiopg",
        "sqlite3",
        "aiosqlite",
        "databases",
        "pymysql",
        "peewee",
        "tortoise",
    }
)
ORMS: Final = frozenset({"sqlalchemy", "sqlmodel", "django.db"})
_ORM_MODULES: Final = frozenset({"sqlalchemy.orm", "sqlalchemy.ext.asyncio", "django.db.connection", "django.db.connections"})
_SESSIONS: Final = frozenset(
    {"Session", "AsyncSession", "sessionmaker", "async_sessionmaker", "scoped_session", "create_engine", "create_async_engine"}
)
OUTSIDE: Final = frozenset(
    {
        "requests", "httpx", "httpx2", "aiohttp", "urllib.request", "urllib3", "http.client", "smtplib", "aiosmtplib", "ftplib",
        "boto3", "aioboto3", "botocore", "grpc", "pika", "aio_pika", "kafka", "aiokafka", "confluent_kafka", "nats", "redis",
        "openai", "anthropic", "stripe", "twilio", "sendgrid", "slack_sdk", "paramiko", "google.cloud",
    }
)  # fmt: skip
_PROJECTIONS: Final = re.compile(r"\b(?:tenant_)?run_summary\b")
_STATEMENT: Final = re.compile(
    r"""\s*(?:
        SELECT\b(?=.+\bFROM\b|\s+\S+\() | INSERT\s+INTO\s+\S+ | UPDATE\s+\S+\s+(?:AS\s+\S+\s+)?SET\b | DELETE\s+FROM\s+\S+
        | WITH\s+(?:RECURSIVE\s+)?\w+\s+(?:\([^)]*\)\s+)?AS\s+(?:NOT\s+)?(?:MATERIALIZED\s*)?\( | MERGE\s+INTO\s+\S+
        | TRUNCATE\s+(?:TABLE\s+)?[\w.]+\s*$
        | (?:CREATE|ALTER|DROP)\s+(?:TABLE|INDEX|VIEW|FUNCTION|POLICY|ROLE|SCHEMA)\s+\S+ | CALL\s+\w+\(
    )""",
    re.VERBOSE | re.DOTALL,
)
_TABLES: Final = re.compile(
    r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(?:ONLY\s+)?(?:persistence\.)?(" + "|".join(CANON.tables) + r")\b", re.IGNORECASE
)
_CHANGING: Final = re.compile(r"^_?(?:update|delete|remove|replace|truncate|purge|edit|set)(?:_|$)")


@dataclass(frozen=True)
class Finding:
    """rule: one of RULES. subject: what it is about."""

    rule: str
    line: int
    subject: str
    detail: str


def findings(source: str, *, may_speak_sql: bool, may_ask_projections: bool) -> Iterator[Finding]:
    """What the rules forbid in one module. Raises SyntaxError."""
    module = ast.parse(source)
    documentation = _docstrings(module)
    if not may_speak_sql:
        yield from _imports(module)
    for text, line in _texts(module):
        if line in documentation:
            continue
        if _STATEMENT.match(text) or (_TABLES.search(text) and _STATEMENT.match(text.upper())):
            opening = " ".join(text.split())[:60]
            if not may_speak_sql:
                yield Finding("raw_sql", line, opening, "SQL outside of a repository")
            table = _TABLES.search(text)
            if table and "tenant_id" not in text:
                yield Finding("tenant_in_statement", line, opening, f"reads or writes {table[1]} without tenant_id")
        if not may_ask_projections and (projection := _PROJECTIONS.search(text)):
            yield Finding("projection_in_decision", line, projection[0], "asked outside of a read service")
    yield from _event_repositories(module)
    yield from _outside_calls(module)


def statement_begins(source: str) -> dict[int, int]:
    """For each line of a simple statement, the line that it begins on: a comment above it is meant for all of it."""
    begins: dict[int, int] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            begins.update(dict.fromkeys(range(node.lineno, (node.end_lineno or node.lineno) + 1), node.lineno))
    return begins


def _imported(node: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Modules that a node imports: the module's name, the name it gets here, the line."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, alias.asname or alias.name.split(".")[0], node.lineno
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        for alias in node.names:
            yield f"{node.module}.{alias.name}", alias.asname or alias.name, node.lineno


def _belongs(module: str, packages: frozenset[str]) -> str | None:
    return next((package for package in packages if module == package or module.startswith(package + ".")), None)


def _imports(module: ast.Module) -> Iterator[Finding]:
    seen: set[tuple[int, str]] = set()
    for node in ast.walk(module):
        for name, local, line in _imported(node):
            driver, orm = _belongs(name, DRIVERS), _belongs(name, ORMS)
            if driver and (line, driver) not in seen:
                seen.add((line, driver))
                yield Finding("driver_import", line, driver, "a database driver outside of a repository")
            elif orm and (name.rsplit(".", 1)[-1] in _SESSIONS or name in {orm, *_ORM_MODULES}):
                yield Finding("orm_session", line, local, f"from {orm}, outside of a repository")


def _docstrings(module: ast.Module) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in node.body:
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    lines.add(statement.lineno)
    return lines


def _texts(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Texts with their lines; of f-strings, what stands in them, with a mark for what varies."""
    inside: set[int] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.JoinedStr):
            inside.update(id(part) for part in node.values)
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values), node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value, node.lineno


def _event_repositories(module: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef) and re.search(r"Events?(?:Repository|Repo|Store|Log)$", node.name):
            for member in node.body:
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and _CHANGING.match(member.name):
                    yield Finding(
                        "append_only_repository", member.lineno, f"{node.name}.{member.name}", "changes or deletes events"
                    )


def _outside_calls(module: ast.Module) -> Iterator[Finding]:
    """Calls of client libraries in a module that orchestrates, but for the bodies of handlers."""
    clients: dict[str, str] = {}
    orchestrates = False
    for node in ast.walk(module):
        for name, local, _ in _imported(node):
            if package := _belongs(name, OUTSIDE):
                clients[local] = package
            orchestrates = orchestrates or name == "persistence" or name.startswith("persistence.")
    if orchestrates and clients:
        yield from _calls(module, clients)


def _calls(node: ast.AST, clients: dict[str, str]) -> Iterator[Finding]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(_is_handler(d) for d in node.decorator_list):
        return
    if isinstance(node, ast.Call):
        root: ast.AST = node.func
        while isinstance(root, ast.Attribute | ast.Call):
            root = root.value if isinstance(root, ast.Attribute) else root.func
        if isinstance(root, ast.Name) and root.id in clients:
            yield Finding("outside_call", node.lineno, ast.unparse(node.func), f"calls {clients[root.id]} past the outbox")
            return
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, clients)


def _is_handler(decorator: ast.expr) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(target, ast.Attribute) and target.attr == "handler"

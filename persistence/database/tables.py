"""The tables as SQLAlchemy metadata, made from their contracts in ``canon/tables.yaml``: what queries are built with, and what the
drift check compares the database with.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB, TSVECTOR
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine, UserDefinedType

from persistence.canon import CANON, TableContract

SCHEMA = "persistence"
METADATA = MetaData(schema=SCHEMA)


class Xid8(UserDefinedType[int]):
    """A 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "xid8"


# What reflection makes of the type when the drift check reads the database.
ischema_names["xid8"] = Xid8

_TYPES: dict[str, TypeEngine[Any]] = {
    "uuid": Uuid(),
    "text": Text(),
    "varchar(100)": String(100),
    "varchar(200)": String(200),
    "varchar(300)": String(300),
    "varchar(500)": String(500),
    "varchar(1000)": String(1000),
    "integer": Integer(),
    "smallint": SmallInteger(),
    "bigint": BigInteger(),
    "jsonb": JSONB(),
    "json": JSON(),
    "timestamptz": DateTime(timezone=True),
    "xid8": Xid8(),
    "bytea": LargeBinary(),
    "boolean": Boolean(),
    "tsvector": TSVECTOR(),
    "double precision": Double(),
    "real[]": ARRAY(REAL()),
}


def _table(name: str, contract: TableContract) -> Table:
    return Table(name, METADATA, *_items(name, contract))


def _items(name: str, contract: TableContract) -> Iterator[SchemaItem]:
    for column, form in contract.columns.items():
        identity = (Identity(always=True),) if form.identity else ()
        yield Column(column, _TYPES[form.type], *identity, nullable=not form.not_null)
    yield PrimaryKeyConstraint(*contract.primary_key, name=f"{name}_pkey")
    for key, columns in contract.unique.items():
        yield UniqueConstraint(*columns, name=key)
    for key, foreign in contract.foreign_keys.items():
        referenced = CANON.tables[foreign.references].primary_key
        yield ForeignKeyConstraint(
            foreign.columns,
            [f"{SCHEMA}.{foreign.references}.{column}" for column in referenced],
            name=key,
            ondelete="CASCADE" if foreign.on_delete == "cascade" else None,
        )
    for key, index in contract.indexes.items():
        where = text(index.where) if index.where else None
        yield Index(key, *index.columns, unique=index.unique, postgresql_where=where, postgresql_using=index.using)


for _name, _contract in CANON.tables.items():
    _table(_name, _contract)


def table(name: str) -> Table:
    """The table of that name in schema ``persistence``."""
    return METADATA.tables[f"{SCHEMA}.{name}"]


TENANTS = table("tenants")
SIGNALS = table("signals")
RUNS = table("runs")
STEPS = table("steps")
TOOL_CALLS = table("tool_calls")
EFFECTS = table("effects")
RUN_CHECKPOINTS = table("run_checkpoints")
DATA_KEYS = table("data_keys")
SECRETS = table("secrets")
MEMORIES = table("memories")
MEMORY_RECALLS = table("memory_recalls")
MEMORY_INDEXES = table("memory_indexes")
SNAPSHOTS = table("snapshots")
VAULT_ACCESSES = table("vault_accesses")
BACKUP_VERIFICATIONS = table("backup_verifications")
OUTBOX_EVENTS = table("outbox_events")
ORCHESTRATION_EVENTS = table("orchestration_events")

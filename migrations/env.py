"""Runs the migrations: each in a transaction of its own, as persistence_owner, one migrator at a time."""

from alembic import context

from persistence.database.migrator import LOCK_TIMEOUT, bootstrap, bootstrap_statements, prepare_session
from persistence.database.tables import METADATA
from persistence.gates.protection import check_protection

options = {
    "target_metadata": METADATA,
    "version_table": "schema_version",
    "version_table_schema": "canon",
    "transaction_per_migration": True,
}


def hold_to_canon(*, ctx, step, **_):
    """No migration goes forward that takes away what the canon protects."""
    if step.is_upgrade:
        check_protection(ctx.connection, step.up_revision_id)


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, dialect_opts={"paramstyle": "named"}, **options)
    for statement in bootstrap_statements():
        context.execute(statement)
    context.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
    context.execute("SET ROLE persistence_owner")
    context.execute("SET search_path = persistence, pg_temp")
    with context.begin_transaction():
        context.run_migrations()
else:
    connection = context.config.attributes["connection"]
    bootstrap(connection)
    prepare_session(connection)
    context.configure(connection=connection, on_version_apply=hold_to_canon, **options)
    with context.begin_transaction():
        context.run_migrations()

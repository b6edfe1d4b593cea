"""Runs the migrations: each in a transaction of its own, as persistence_owner, one migrator at a time."""

from alembic import context

from persistence.database.migrator import bootstrap, bootstrap_statements, prepare_session
from persistence.database.tables import METADATA

options = {
    "target_metadata": METADATA,
    "version_table": "schema_version",
    "version_table_schema": "canon",
    "transaction_per_migration": True,
}

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, dialect_opts={"paramstyle": "named"}, **options)
    for statement in bootstrap_statements():
        context.execute(statement)
    context.execute("SET ROLE persistence_owner")
    context.execute("SET search_path = persistence, pg_temp")
    with context.begin_transaction():
        context.run_migrations()
else:
    connection = context.config.attributes["connection"]
    bootstrap(connection)
    prepare_session(connection)
    context.configure(connection=connection, **options)
    with context.begin_transaction():
        context.run_migrations()

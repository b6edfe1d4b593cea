"""Each check is silent on a lawful database, finds the violation planted for it and nothing else, and is silent again once it is cured.

A check without a planted violation does not count.
"""

import asyncpg
import pytest

from persistence.gates.checks import Check, shipped_suites
from persistence.gates.fit import Options, Runner, check_variables, violations_of
from persistence.gates.statements import plans, shipped_statements
from persistence.settings import Settings
from tests.conftest import TestServer
from tests.gates.plants import Plant, abstraction, data, schema

CHECKS = {check.name: check for check in shipped_suites()}
PLANTS = {**schema.PLANTS, **data.PLANTS, **abstraction.PLANTS}
# They need what a transaction that is rolled back cannot give.
ELSEWHERE = {"queries_use_indexes", "database_encoding"}


def test_every_check_has_a_planted_violation() -> None:
    assert set(PLANTS) | ELSEWHERE == set(CHECKS)
    assert len(CHECKS) >= 60
    assert len(CHECKS) == len(shipped_suites())  # names are unique, whatever the suite


async def objects(connection: asyncpg.Connection, check: Check, login: str | None) -> list[str]:
    options = Options()
    variables = check_variables(options)
    variables["tenant"] = str(await connection.fetchval("SELECT tenant_id FROM persistence.tenants WHERE name = 'acme'"))
    async with connection.transaction():
        if login:
            await connection.execute(f"SET LOCAL ROLE {login}")
        found = await violations_of(connection, check, variables, options)
        await connection.execute("RESET ROLE")
        if check.needs == "fold":
            await connection.execute(
                "DROP TABLE pg_temp.differences, "
                + ", ".join(
                    f"pg_temp.{table}"
                    for table in (
                        "signals",
                        "runs",
                        "steps",
                        "tool_calls",
                        "effects",
                        "outbox_events",
                        "run_checkpoints",
                        "data_keys",
                        "secrets",
                        "vault_accesses",
                        "memories",
                        "memory_recalls",
                        "memory_indexes",
                        "snapshots",
                        "backup_verifications",
                    )
                )
            )
    return sorted(violation.object for violation in found)


@pytest.mark.parametrize("name", PLANTS)
async def test_a_planted_violation_is_found_and_its_cure_silences(superuser: asyncpg.Connection, name: str) -> None:
    check, plant = CHECKS[name], PLANTS[name]
    if plant.asks:
        assert await objects(superuser, check, plant.asks) == []
    begun = superuser.transaction()
    await begun.start()
    await sow(superuser, plant)
    wanted = [row[0] for row in await superuser.fetch(plant.finds)] if plant.finds.startswith("SELECT") else [plant.finds]
    assert await objects(superuser, check, plant.asks) == sorted(wanted)
    if plant.cure is None:
        await begun.rollback()
    else:
        await superuser.execute(plant.cure)
        await begun.commit()
    assert await objects(superuser, check, plant.cure_asks) == []


async def sow(connection: asyncpg.Connection, plant: Plant) -> None:
    if plant.is_row:
        await connection.execute("SET LOCAL session_replication_role = replica")
    await connection.execute(plant.fault)
    await connection.execute("SET LOCAL session_replication_role = origin")


async def test_a_fresh_history_passes_all_suites(history_audit_dsn: str, history_dsn: str) -> None:
    outcomes = await Runner(history_audit_dsn, history_dsn, Settings()).run(shipped_suites())
    assert [(outcome.check.id, outcome.problem, outcome.violations) for outcome in outcomes if outcome.verdict != "passed"] == []


def test_a_missing_index_shows_in_the_plans_of_the_shipped_statements(dsn: str, admin: object) -> None:
    assert len(shipped_statements()) > 30
    assert plans(dsn, shipped_statements()) == []
    admin.execute("DROP INDEX persistence.steps_run_idx")  # type: ignore[attr-defined]
    admin.execute("ALTER TABLE persistence.steps DROP CONSTRAINT steps_pkey CASCADE")  # type: ignore[attr-defined]
    found = plans(dsn, shipped_statements())
    assert {plan["table_name"] for plan in found} == {"steps"}
    assert "steps by run_id" in {plan["statement"] for plan in found}


async def test_another_encoding_is_found(test_server: TestServer) -> None:
    connection = await asyncpg.connect(f"postgresql://postgres@/postgres?host={test_server.host}")
    try:
        await connection.execute("CREATE DATABASE western ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        western = await asyncpg.connect(f"postgresql://postgres@/western?host={test_server.host}")
        sql = CHECKS["database_encoding"].statement(check_variables(Options()))
        assert [row["object"] for row in await western.fetch(sql)] == ["western"]
        await western.close()
        assert await connection.fetch(sql) == []
    finally:
        await connection.execute("DROP DATABASE western WITH (FORCE)")
        await connection.close()

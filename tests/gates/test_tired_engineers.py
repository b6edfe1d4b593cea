"""Ten mistakes that a tired engineer makes in a migration on a Friday afternoon: each turns a gate red, by name."""

import asyncpg
import pytest

from persistence.gates.checks import Check, shipped_suites
from persistence.gates.fit import Options, check_variables, violations_of

CHECKS = [check for check in shipped_suites() if check.suite == "FIT-ORCH-SCHEMA-001"]

MISTAKES = {
    "a new table without tenant and policy": (
        "CREATE TABLE persistence.comments (id serial PRIMARY KEY, run_id uuid, body text)",
        {"tenant_id_column", "timestamp_columns", "primary_keys", "keys_led_by_tenant", "rls_enabled", "rls_forced", "rls_policy"},
    ),
    "row level security off for a backfill, and never on again": (
        "ALTER TABLE persistence.runs DISABLE ROW LEVEL SECURITY",
        {"rls_enabled"},
    ),
    "a policy for the support team": (
        "CREATE POLICY support ON persistence.signals FOR SELECT TO persistence_app USING (true)",
        {"rls_other_policies"},
    ),
    "a globally unique idempotency key": (
        "CREATE UNIQUE INDEX one_key ON persistence.effects (idempotency_key)",
        {"keys_led_by_tenant"},
    ),
    "a foreign key on the id alone, cascading": (
        "CREATE UNIQUE INDEX runs_by_id ON persistence.runs (id);"
        "ALTER TABLE persistence.steps ADD CONSTRAINT quick FOREIGN KEY (run_id) REFERENCES persistence.runs (id) ON DELETE CASCADE",
        {"foreign_keys_led_by_tenant", "cascades", "keys_led_by_tenant"},
    ),
    "a helper function with the owner's rights": (
        "CREATE FUNCTION persistence.fix_run(run uuid) RETURNS void LANGUAGE sql SECURITY DEFINER AS "
        "$$ UPDATE persistence.runs SET status = 'COMPLETED' WHERE id = run $$",
        {"definer_search_path", "public_functions", "functions_as_shipped"},
    ),
    "the projection granted to the dashboard": (
        "GRANT SELECT ON persistence.run_summary TO PUBLIC",
        {"materialized_views_closed", "public_grants"},
    ),
    "a quick UPDATE right for a correction script": (
        "GRANT UPDATE ON persistence.runs, persistence.orchestration_events TO persistence_app",
        {"writes_by_functions_only", "log_privileges"},
    ),
    "triggers off while importing": (
        "ALTER TABLE persistence.orchestration_events DISABLE TRIGGER ALL",
        {"triggers_enabled", "log_triggers"},
    ),
    "an index dropped that nobody seemed to use": (
        "DROP INDEX persistence.tool_calls_step_idx",
        {"canonical_indexes", "foreign_keys_indexed"},
    ),
    "a time without a zone": (
        "ALTER TABLE persistence.steps ADD COLUMN due timestamp",
        {"time_zones", "unknown_columns"},
    ),
    "a superuser's table": (
        "ALTER TABLE persistence.outbox_queue OWNER TO postgres",
        {"owners"},
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_it_turns_gates_red_by_name(superuser: asyncpg.Connection, mistake: str) -> None:
    change, expected = MISTAKES[mistake]
    await superuser.execute(change)
    red = {check.name for check in CHECKS if await is_red(superuser, check)}
    assert expected <= red
    assert len(MISTAKES) >= 10


async def is_red(connection: asyncpg.Connection, check: Check) -> bool:
    async with connection.transaction():
        await connection.execute("SET LOCAL ROLE persistence_audit")
        found = await violations_of(connection, check, check_variables(Options()), Options())
        await connection.execute("RESET ROLE")
    return bool(found)

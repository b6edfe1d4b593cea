"""Gates go on where they were lawful, and miss nothing that was written meanwhile, however long its transaction took."""

from pathlib import Path

import psycopg

from persistence import Plane
from persistence.models import Tenant
from tests.gates.test_fit_command import fit
from tests.helpers import ACTOR

CHECK = "event_digests"

# Past every rule: an event whose digest is another's. The disguise of a trigger that is off for this session.
_FORGE = """
UPDATE persistence.orchestration_events SET digest = sha256('other') WHERE id = %s
"""


async def one_run(plane: Plane, tenant: Tenant) -> str:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="walk")
    return str(run.last_event_id)


def keep(audit_dsn: str, dsn: str, *arguments: str) -> tuple[int, str, bool]:
    done = fit("run", "--record", *arguments, PERSISTENCE_DSN=dsn, PERSISTENCE_AUDIT_DSN=audit_dsn)
    mark = next((line.strip()[0] for line in done.stdout.splitlines() if CHECK in line), "")
    return done.returncode, mark, "what happened since" in done.stderr


async def test_what_was_lawful_is_not_looked_at_again_unless_asked_for(
    plane: Plane, tenant: Tenant, audit_dsn: str, dsn: str, admin: psycopg.Connection
) -> None:
    old = await one_run(plane, tenant)
    first = fit("run", "--record", PERSISTENCE_DSN=dsn, PERSISTENCE_AUDIT_DSN=audit_dsn)
    assert (first.returncode, "what happened since" in first.stderr) == (0, False), first.stdout
    assert keep(audit_dsn, dsn) == (0, "✓", True)
    forge(admin, old)
    assert keep(audit_dsn, dsn) == (0, "✓", True)
    assert keep(audit_dsn, dsn, "--all") == (1, "✗", False)
    assert keep(audit_dsn, dsn) == (1, "✗", False)  # what is red stays red


async def test_what_a_long_transaction_wrote_is_looked_at(
    plane: Plane, tenant: Tenant, audit_dsn: str, dsn: str, admin: psycopg.Connection
) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="walk")
        await tx.flush()  # written before the gates run, and committed after
        assert keep(audit_dsn, dsn) == (0, "✓", False)
    forge(admin, str(run.last_event_id))
    assert keep(audit_dsn, dsn) == (1, "✗", True)
    assert keep(audit_dsn, dsn) == (1, "✗", False)


async def test_other_checks_another_epoch_and_runs_that_saw_a_part_are_nothing_to_go_on_from(
    plane: Plane, tenant: Tenant, audit_dsn: str, dsn: str, admin: psycopg.Connection, tmp_path: Path
) -> None:
    await one_run(plane, tenant)
    assert keep(audit_dsn, dsn, "--since", "1h") == (0, "✓", False)
    assert keep(audit_dsn, dsn, "--sample", "50") == (0, "✓", False)
    assert keep(audit_dsn, dsn) == (0, "✓", False)
    own = tmp_path / "OWN"
    own.mkdir()
    (own / "none.sql").write_text(
        "-- title: Nothing\n-- law: OWN\n-- severity: error\n-- means: x\n-- remedy: x\nSELECT '' AS object, '' AS detail WHERE false\n"
    )
    assert keep(audit_dsn, dsn, "--checks-from", str(own)) == (0, "✓", False)
    assert keep(audit_dsn, dsn) == (0, "✓", False)
    assert keep(audit_dsn, dsn) == (0, "✓", True)
    admin.execute("INSERT INTO canon.log_epochs SELECT 1 + max(epoch), max(system_identifier), 1000000 FROM canon.log_epochs")
    admin.execute("SELECT setval(pg_get_serial_sequence('persistence.orchestration_events', 'sequence_number'), 1000000)")
    assert keep(audit_dsn, dsn) == (0, "✓", False)


def test_all_and_a_part_exclude_each_other(audit_dsn: str) -> None:
    done = fit("run", "--all", "--since", "1h", "--dsn", audit_dsn)
    assert (done.returncode, "leave out --since and --sample" in done.stderr) == (2, True), done.stderr


def forge(admin: psycopg.Connection, event_id: str) -> None:
    admin.execute("SET session_replication_role = replica")
    admin.execute(_FORGE, [event_id])
    admin.execute("SET session_replication_role = DEFAULT")

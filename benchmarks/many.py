"""``python -m benchmarks.many``: what a claim costs with many tenants and many effect types, and how much work lies where."""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.big import say
from benchmarks.processes import Part, run_together
from benchmarks.server import BenchServer
from benchmarks.systems import plane

# A mark for each of many tenants, as though each had asked for something of late.
MARKS = (
    "INSERT INTO persistence.outbox_marks (tenant_id, effect_type) SELECT gen_random_uuid(), 'BENCH' FROM generate_series(1, %s)"
)

# Something due for each of them.
WORK = """
INSERT INTO persistence.outbox_queue (tenant_id, id, effect_type, due_at)
SELECT m.tenant_id, gen_random_uuid(), m.effect_type, now() FROM persistence.outbox_marks AS m
"""

# A minute later, as far as marks can tell.
LATER = "UPDATE persistence.outbox_marks SET created_at = created_at - interval '2 minutes'"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many")
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--types", type=int, default=1_000)
    parser.add_argument("--claims", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, BenchServer.started(Path(folder)) as server:
        dsn = server.fresh("many")
        plane.prepare(dsn)

        def sql(*statements: str, **values: Any) -> None:
            with psycopg.connect(dsn, autocommit=True) as connection:
                for statement in statements:
                    connection.execute(statement, values.get("values"))

        def claims(what: str, types: int) -> None:
            arguments = {"dsn": dsn, "types": types, "count": options.claims}
            _, [taken] = run_together([Part("plane", "claim_latencies", arguments)])
            taken.sort()
            say(f"{what}: p50 {statistics.median(taken) * 1000:.2f}, p95 {taken[len(taken) * 95 // 100] * 1000:.2f} ms a claim")

        claims("one tenant, one type", 1)
        sql(MARKS, values=[options.tenants])
        claims(f"{options.tenants:,} tenants that had work of late, one with work", 1)
        sql(LATER)
        run_together([Part("plane", "sweep", {"dsn": dsn, "types": 1})])
        claims(f"{options.tenants:,} tenants, one with work", 1)
        claims(f"one tenant, {options.types:,} types of which one has work", options.types)
        sql(MARKS, values=[options.tenants])
        sql(WORK, "ANALYZE persistence.outbox_queue", "ANALYZE persistence.outbox_marks")
        _, [took] = run_together([Part("plane", "draw_latencies", {"dsn": dsn, "count": options.claims})])
        say(f"{options.tenants:,} tenants, all with work: p50 {statistics.median(took) * 1000:.2f} ms to draw whose turn it is")


if __name__ == "__main__":
    main()

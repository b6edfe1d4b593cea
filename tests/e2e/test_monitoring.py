"""Prometheus itself, with the rules that are shipped, on a service that has something to say."""

import asyncio
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import orjson
import yaml
from prometheus_client import REGISTRY

from persistence import Plane
from persistence.models import Tenant
from persistence.outbox import Delivery, PermanentFailure
from tests.debian import program
from tests.helpers import request_effect, worker_with
from tests.serving import serving

DEPLOY = Path(__file__).parent.parent.parent / "deploy"


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"persistence_[a-z_]+", expression))


def offered() -> set[str]:
    names = set()
    for family in REGISTRY.collect():
        if family.name.startswith("persistence_"):
            names |= {sample.name for sample in family.samples} | {family.name}
            if family.type == "counter":
                names.add(f"{family.name}_total")
            if family.type == "histogram":
                names |= {f"{family.name}_{part}" for part in ("bucket", "count", "sum")}
    return names


def test_rules_and_dashboard_speak_of_metrics_that_there_are() -> None:
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
    dashboard = orjson.loads((DEPLOY / "grafana" / "dashboard.json").read_bytes())
    expressions = [rule["expr"] for rule in rules] + [
        target["expr"] for panel in dashboard["panels"] for target in panel["targets"]
    ]
    assert len(expressions) > 20
    assert set().union(*map(names_in, expressions)) <= offered()


async def _json(client: httpx2.AsyncClient, path: str) -> Any:
    try:
        return (await client.get(path)).json()["data"]
    except (httpx2.HTTPError, ValueError, KeyError):
        return None


async def test_prometheus_scrapes_and_judges(dsn: str, admin_dsn: str, audit_dsn: str, tenant: Tenant, tmp_path: Path) -> None:
    prometheus = program("prometheus", "prometheus", tmp_path / "debian")
    promtool = prometheus.with_name("promtool")
    checked = subprocess.run([promtool, "check", "rules", DEPLOY / "alerts.yml"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    async with Plane(dsn=dsn, admin_dsn=admin_dsn, audit_dsn=audit_dsn, metrics_token="secret") as plane, serving(plane) as service:
        await request_effect(plane, tenant.tenant_id, "dead", "MAIL")

        async def refuse(_: Delivery) -> None:
            raise PermanentFailure("no")

        await worker_with(refuse, "MAIL").drain(plane)
        config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
        (tmp_path / "token").write_text("secret")
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"] = config["scrape_configs"][:1]
        config["scrape_configs"][0]["authorization"]["credentials_file"] = str(tmp_path / "token")
        config["scrape_configs"][0]["static_configs"] = [{"targets": [service.url.removeprefix("http://")]}]
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        (tmp_path / "alerts.yml").write_text((DEPLOY / "alerts.yml").read_text())
        log = (tmp_path / "log").open("w")
        running = await asyncio.create_subprocess_exec(
            prometheus,
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            "--web.listen-address=127.0.0.1:0",
            stderr=log,
            stdout=log,
        )
        try:
            async with asyncio.timeout(60):
                while (port := re.search(r"Listening on.*127\.0\.0\.1:(\d+)", (tmp_path / "log").read_text())) is None:
                    await asyncio.sleep(0.05)
                async with httpx2.AsyncClient(timeout=60, base_url=f"http://127.0.0.1:{port[1]}") as client:
                    rung: set[str] = set()
                    while "PersistenceDeadLetters" not in rung:
                        await asyncio.sleep(0.1)
                        alerts = await _json(client, "/api/v1/alerts") or {"alerts": []}
                        rung = {alert["labels"]["alertname"] for alert in alerts["alerts"]}
                    found = await _json(client, "/api/v1/query?query=persistence_outbox_entries%7Bstate%3D%22dead%22%7D")
                    targets = await _json(client, "/api/v1/targets")
        finally:
            running.terminate()
            await running.wait()
            log.close()
    assert [target["health"] for target in targets["activeTargets"]] == ["up"]
    assert found["result"][0]["value"][1] == "1"

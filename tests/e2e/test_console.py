"""The console in a real browser, on a real history."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from persistence import Plane
from persistence.gates.checks import shipped_suites
from persistence.gates.fit import Options, Runner
from persistence.gates.record import record
from persistence.importing.importer import Importer
from persistence.models import Channel, Effect, LivePosition, Role, Run, Tenant
from persistence.outbox import Delivery, PermanentFailure, Worker
from tests.browser import browsing
from tests.helpers import ACTOR, request_effect, worker_with
from tests.real import first_cases
from tests.serving import Service, serving

AXE = Path(str(files("axe_playwright_python"))) / "axe.min.js"
PAGES = (
    "/console/",
    "/console/runs",
    "/console/runs/stalled",
    "/console/dead-letters",
    "/console/data",
    "/console/memories",
    "/console/outbox",
    "/console/streams",
    "/console/gates",
    "/console/compare",
)


@pytest.fixture
async def service(plane: Plane) -> AsyncIterator[Service]:
    rules = {"data:web.form": {"run": "answer"}}
    async with serving(plane, rules=rules, requests_per_second=1000) as running:
        yield running


async def posted(service: Service, tenant: Tenant, data: dict[str, object]) -> str:
    """Data that came in and are on the record. When they were collected."""
    receipt = await service.ingest.put(tenant.tenant_id, "web.form", data, actor="user:ada")
    await service.ingest.wait_until_recorded(tenant.tenant_id, receipt, 30)
    return receipt.collected_at


@asynccontextmanager
async def visit(
    browser: Browser, service: Service, tenant: Tenant, role: Role = Role.OPERATOR, **options: str
) -> AsyncIterator[Page]:
    """A page of somebody who is logged in. Whatever the browser complains about fails the test, as does a request to elsewhere."""
    context = await browser.new_context(base_url=service.url, **options)  # type: ignore[arg-type]
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request", lambda request: complaints.append(request.url) if not request.url.startswith((service.url, "data:")) else None
    )
    token = await service.token(tenant, role)
    await page.goto("/console/login")
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Log in").click()
    yield page
    await context.close()
    assert complaints == []


async def failing_history(plane: Plane, tenant: Tenant) -> tuple[Run, Effect]:
    """A run that failed, and a run whose effect is dead."""
    effect = await request_effect(plane, tenant.tenant_id, "mail-1", "MAIL", to="edsger@example.org")

    async def refuse(_: Delivery) -> None:
        raise PermanentFailure("the mailbox does not exist")

    await worker_with(refuse, "MAIL").drain(plane)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="loan", input={"amount": 5})
        step = tx.steps.start(run, step_type="assess", input={"amount": 5})
        call = tx.tool_calls.start(step, tool_name="register", args={"who": "<b>Edsger</b>"})
        error = {"type": "NoIncome", "message": "the register knows <i>no</i> income"}
        step = tx.steps.fail(step, error, because=tx.tool_calls.fail(call, error))
        return tx.runs.fail(run, error, because=step), effect


async def violations(page: Page) -> list[str]:
    """What axe finds. It is evaluated past the page's policy, as a developer's tools are."""
    await page.evaluate(AXE.read_text())
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [f"{page.url}: {item['id']}: {item['help']}: {json.dumps(item['nodes'][0]['target'])}" for item in found["violations"]]


async def test_one_logs_in_with_a_token_and_out_again(service: Service, tenant: Tenant) -> None:
    async with browsing() as browser:
        context = await browser.new_context(base_url=service.url)
        page = await context.new_page()
        await page.goto("/console/runs?status=FAILED")
        assert "/console/login" in page.url
        await page.get_by_label("Token").fill("pp_nonsense")
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("alert")).to_contain_text("no token")
        await page.get_by_label("Token").fill(await service.token(tenant))
        await page.get_by_role("button", name="Log in").click()
        assert page.url.endswith("/console/runs?status=FAILED")
        [cookie] = await context.cookies()
        assert (cookie.get("httpOnly"), cookie.get("sameSite")) == (True, "Lax")
        await page.get_by_role("button", name="Log out").click()
        await page.goto("/console/")
        assert "/console/login" in page.url


async def test_one_finds_a_failed_run_sees_why_requeues_and_watches(service: Service, tenant: Tenant, plane: Plane) -> None:
    """Without reading documentation: from the overview to the cause, and from the dead letter to its delivery."""
    run, effect = await failing_history(plane, tenant)
    async with browsing() as browser, visit(browser, service, tenant) as page:
        await page.get_by_role("region", name="Failed runs").get_by_role("link", name=str(run.id)).click()
        await expect(page.locator("#conclusion")).to_contain_text(
            "because step 0 assess failed, because its tool call register failed: NoIncome"
        )
        await page.get_by_role("link", name="Overview").click()
        await page.get_by_role("region", name="Dead letters").get_by_role("link", name="MAIL").click()
        await page.get_by_role("link", name=str(effect.id)).click()
        await expect(page.get_by_role("status")).to_contain_text("the mailbox does not exist")
        await page.get_by_label("Reason").fill("the mailbox is back")
        page.once("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
        await page.get_by_role("button", name="Requeue").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("PENDING")

        async def succeed(_: Delivery) -> str:
            return "sent"

        await worker_with(succeed, "MAIL").drain(plane)
        await expect(page.get_by_role("heading", level=1)).to_contain_text("EXECUTED", timeout=10_000)
        await expect(page.get_by_role("status")).to_contain_text("It was delivered at")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        events = await tx.events.of_aggregate(effect.id)
    [requeued] = [event for event in events if event.event_type == "EFFECT_REQUEUED"]
    assert (requeued.actor, requeued.event_data["reason"]) == ("user:ada", "the mailbox is back")


async def test_dead_letters_are_moved_many_at_a_time(service: Service, tenant: Tenant, plane: Plane) -> None:
    for number in range(3):
        await request_effect(plane, tenant.tenant_id, f"mail-{number}", "MAIL")

    async def refuse(_: Delivery) -> None:
        raise PermanentFailure("no")

    await worker_with(refuse, "MAIL").drain(plane)
    async with browsing() as browser, visit(browser, service, tenant) as page:
        page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
        await page.get_by_role("link", name="Dead letters").first.click()
        await page.get_by_role("checkbox").first.check()
        await page.get_by_role("button", name="Requeue").click()
        await expect(page.get_by_role("status")).to_contain_text("1 requeued")
        await page.get_by_label("Which").select_option("all")
        await page.get_by_label("Reason").fill("sent by hand")
        await page.get_by_role("button", name="Discard").click()
        await expect(page.get_by_role("status")).to_contain_text("2 discarded")
        await expect(page.get_by_text("There are none.")).to_be_visible()
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert await tx.effects.count(status="DISCARDED") == 2
        assert await tx.effects.count(status="PENDING") == 1


async def test_a_reader_sees_and_cannot_act(service: Service, tenant: Tenant, plane: Plane) -> None:
    _, effect = await failing_history(plane, tenant)
    async with browsing() as browser, visit(browser, service, tenant, Role.READER) as page:
        await page.goto(f"/console/effects/{effect.id}")
        await expect(page.get_by_role("button", name="Requeue")).to_have_count(0)
        answer = await page.context.request.post(f"/console/effects/{effect.id}/requeue")
        assert answer.status == 403
        foreign = await page.context.request.post(
            f"/console/effects/{effect.id}/requeue", headers={"Origin": "https://elsewhere.example"}
        )
        assert foreign.status == 403


async def test_nothing_of_another_tenant_is_shown(service: Service, tenant: Tenant, plane: Plane) -> None:
    run, effect = await failing_history(plane, tenant)
    other = await plane.tenants.create("other", actor="system:test")
    async with browsing() as browser:
        context = await browser.new_context(base_url=service.url)
        page = await context.new_page()
        await page.goto("/console/login")
        await page.get_by_label("Token").fill(await service.token(other))
        await page.get_by_role("button", name="Log in").click()
        for path in (f"/console/runs/{run.id}", f"/console/effects/{effect.id}", f"/console/runs/{run.id}/moment?number=1"):
            answer = await page.goto(path)
            assert answer is not None
            assert answer.status == 404, path
        await page.goto(f"/console/runs?search={run.id}")
        await expect(page.get_by_text("No run fits.")).to_be_visible()


async def test_time_can_be_travelled(service: Service, tenant: Tenant, plane: Plane) -> None:
    run, _ = await failing_history(plane, tenant)
    async with browsing() as browser, visit(browser, service, tenant) as page:
        await page.goto(f"/console/runs/{run.id}")
        moment = page.locator("#moment")
        await expect(moment).to_contain_text("Event 6 of 6: RUN_FAILED")
        await page.get_by_label("After event").fill("2")
        await expect(moment).to_contain_text("Event 2 of 6: STEP_STARTED")
        await expect(moment.get_by_role("row")).to_have_count(3)
        await expect(moment).not_to_contain_text("FAILED")


async def test_filters_are_in_the_address(service: Service, tenant: Tenant, plane: Plane) -> None:
    run, _ = await failing_history(plane, tenant)
    async with browsing() as browser, visit(browser, service, tenant) as page:
        await page.goto("/console/runs")
        await expect(page.get_by_role("region", name="Runs").get_by_role("row")).to_have_count(3)
        await page.get_by_label("Status").select_option("FAILED")
        await expect(page.get_by_role("region", name="Runs").get_by_role("row")).to_have_count(2)
        await expect(page).to_have_url(re.compile("status=FAILED"))
        await page.reload()
        await expect(page.get_by_role("region", name="Runs").get_by_role("link", name=str(run.id))).to_be_visible()
        await page.get_by_placeholder("Any id, channel:source, key").fill("mail-1")
        await page.get_by_placeholder("Any id, channel:source, key").press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("test")


async def test_the_overview_lives(service: Service, tenant: Tenant, plane: Plane) -> None:
    async with browsing() as browser, visit(browser, service, tenant) as page:
        await expect(page.locator("#chart canvas")).to_be_visible()
        await expect(page.locator("#live")).to_contain_text("None.")
        run, _ = await failing_history(plane, tenant)
        await expect(page.get_by_role("region", name="Failed runs").get_by_role("link", name=str(run.id))).to_be_visible(
            timeout=10_000
        )


async def test_the_pages_are_open_to_all(service: Service, tenant: Tenant, plane: Plane, audit_dsn: str, dsn: str) -> None:
    """No axe violations, light and dark; the keyboard reaches what the mouse does."""
    run, effect = await failing_history(plane, tenant)
    collected_at = await posted(service, tenant, {"name": "Ada"})
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        memory = tx.memories.remember("Ada likes tea", agent="agent:desk", context="chat", tags=["taste"])
    outcomes = await Runner(audit_dsn, dsn, plane.settings, Options()).run(shipped_suites())
    await record(audit_dsn, plane.settings, outcomes, Options(), seconds=1, actor="user:op")
    found = []
    async with browsing() as browser:
        for scheme in ("light", "dark"):
            async with visit(browser, service, tenant, color_scheme=scheme) as page:
                for path in (
                    *PAGES,
                    f"/console/runs/{run.id}",
                    f"/console/effects/{effect.id}",
                    f"/console/memories/{memory.id}",
                    "/console/memories?text=tea",
                    "/console/data/web.form",
                    f"/console/data/web.form/{collected_at}",
                    f"/console/compare?left={run.id}&right={effect.run_id}",
                ):
                    await page.goto(path)
                    found += await violations(page)
                await page.goto("/console/")
                await page.keyboard.press("Tab")
                await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
                await page.keyboard.press("Enter")
                await expect(page.locator("#content")).to_be_focused()
    assert found == []


async def test_a_real_history_is_shown_without_complaint(
    service: Service, tenant: Tenant, plane: Plane, shared_data: Path, tmp_path: Path
) -> None:
    first_cases(shared_data / "bpic2012.xes.gz", tmp_path / "bpic2012.xes.gz", 2000)
    await Importer(plane, tenant.tenant_id).read(tmp_path / "bpic2012.xes.gz")
    async with browsing() as browser, visit(browser, service, tenant) as page:
        await page.goto("/console/runs")
        links = await page.get_by_role("region", name="Runs").get_by_role("link").all()
        runs = [await link.get_attribute("href") for link in links[:5]]
        await page.get_by_role("link", name="Older").click()
        for path in (*PAGES, "/console/runs?status=COMPLETED", "/console/runs?since=2012-01-01T00:00", *filter(None, runs)):
            answer = await page.goto(path)
            assert answer is not None
            assert answer.status == 200, path


async def test_data_lead_to_the_run_that_they_started_and_back(service: Service, tenant: Tenant) -> None:
    for number in range(60):
        collected_at = await posted(service, tenant, {"number": number, "text": "<script>alert(1)</script>"})
    await service.ingest.put(tenant.tenant_id, "web.large", {"text": "x" * 100_000}, actor="user:ada")
    async with browsing() as browser, visit(browser, service, tenant) as page:
        await page.get_by_role("link", name="Data").click()
        await page.get_by_role("link", name="web.form").click()
        await page.get_by_role("link", name="Older").click()
        await expect(page.get_by_role("region", name="Data files").get_by_role("row")).to_have_count(11)
        await page.get_by_role("link", name="Newest").click()
        await page.get_by_role("link", name=collected_at).click()
        content = page.get_by_role("region", name="Content of the file")
        await expect(content).to_contain_text('"number": 59')
        await expect(content).to_contain_text("<script>alert(1)</script>")
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Download").click()
        assert json.loads((await (await download.value).path()).read_text())["data"]["number"] == 59
        await page.get_by_role("region", name="Runs that it started").get_by_role("link").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("answer")
        await page.get_by_role("link", name=f"web.form {collected_at}").click()
        await page.goto("/console/data/web.large/latest")
        await expect(page.get_by_text("bytes more are not shown")).to_be_visible()


async def test_workers_and_their_leases_are_shown(service: Service, tenant: Tenant, plane: Plane) -> None:
    await request_effect(plane, tenant.tenant_id, "slow", "SLOW")
    begun, finish = asyncio.Event(), asyncio.Event()

    async def wait(_: Delivery) -> None:
        begun.set()
        await finish.wait()

    worker = Worker(name="worker-seven", listen=False)
    worker.handler("SLOW")(wait)
    stop = asyncio.Event()
    working = asyncio.create_task(worker.run(plane, stop))
    await begun.wait()
    async with browsing() as browser, visit(browser, service, tenant) as page:
        await page.goto("/console/outbox")
        await expect(page.get_by_role("region", name="Workers and leases")).to_contain_text("worker-seven")
        finish.set()
        await expect(page.get_by_text("No worker holds anything")).to_be_visible(timeout=15_000)
    stop.set()
    await working


async def test_what_happens_is_shown_as_it_happens(service: Service, tenant: Tenant, plane: Plane) -> None:
    """By the socket: what happened just now, what comes, the service that was away, and messages that are not kept."""
    async with plane.transaction(tenant.tenant_id, actor="agent:before") as tx:
        tx.runs.start(run_type="<b>x</b>")
        await tx.consumers.hold("billing", Channel("events"))
    async with browsing() as browser, visit(browser, service, tenant) as page:
        await page.goto("/console/streams")
        rows = page.locator("#stream tbody")
        await expect(rows).to_contain_text("agent:before")
        await expect(page.locator("#stream-state")).not_to_have_text("connecting")
        async with plane.transaction(tenant.tenant_id, actor="agent:now") as tx:
            run = tx.runs.start(run_type="x")
        await expect(rows.locator("tr").first).to_contain_text("agent:now")
        await expect(page.locator("#stream-runs")).to_contain_text("2 running")
        await expect(page.locator("[data-consumer=billing]")).not_to_be_empty()
        await page.get_by_label("Channel").fill(f"tokens:{run.id}")
        await page.get_by_role("button", name="Follow").click()
        await expect(rows.locator("tr")).to_have_count(0)
        async with asyncio.timeout(60):
            while await rows.locator("tr").count() == 0:
                await plane.publish(tenant.tenant_id, f"tokens:{run.id}", "<i>word</i>", actor="agent:now")
                await asyncio.sleep(0.1)
        await expect(rows.locator("tr").first).to_contain_text("<i>word</i>")
        await page.get_by_label("Channel").fill("nowhere")
        await page.get_by_role("button", name="Follow").click()
        await expect(page.locator("#stream-state")).to_contain_text("is none")


async def test_the_client_for_browsers_comes_back_and_misses_nothing(service: Service, tenant: Tenant, plane: Plane) -> None:
    token = await service.token(tenant, Role.OPERATOR)
    async with browsing() as browser, visit(browser, service, tenant) as page:
        await page.goto("/console/gates")
        await page.evaluate(
            """async (token) => {
              const { Streams } = await import("/v1/streams/client.js");
              window.got = []; window.losses = 0; window.sockets = [];
              const Plain = WebSocket;
              window.WebSocket = class extends Plain { constructor(...given) { super(...given); window.sockets.push(this); } };
              window.streams = new Streams("/v1/streams", { token });
              window.streams.addEventListener("close", () => window.losses++);
              window.streams.follow("type:RUN_STARTED", ({ event, position }) => window.got.push([position, event.id]), { after: "0-0-0" });
              await new Promise((opened) => window.streams.addEventListener("open", opened));
            }""",
            token,
        )
        for _ in range(3):
            for _ in range(20):
                async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                    tx.runs.start(run_type="x")
            await open_again(page)
            await page.evaluate(
                """() => new Promise((closed) => {
                  window.streams.addEventListener("close", closed, { once: true });
                  window.sockets.at(-1).close();
                })"""
            )
        async with asyncio.timeout(60):
            while len(await page.evaluate("window.got")) < 60:
                await asyncio.sleep(0.1)
        got = await page.evaluate("window.got")
        assert await page.evaluate("window.losses") == 3
        position = await page.evaluate("window.streams.publish('chat:x', {a: 1}).then((said) => said.position)")
        assert LivePosition.parse(position).number == 1
        refused = await page.evaluate("window.streams.publish('events', 1).catch((error) => error.detail)")
        assert "nothing is told" in refused
        await page.evaluate("window.streams.close()")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        started = [
            [str(place), str(event.id)]
            for event, place in await tx.events.read_each(limit=1000)
            if event.event_type == "RUN_STARTED"
        ]
    assert got == started


async def open_again(page: Page) -> None:
    async with asyncio.timeout(60):
        while not await page.evaluate("window.streams.isOpen"):
            await asyncio.sleep(0.02)

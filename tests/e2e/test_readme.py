"""What the README says, done."""

import re
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from persistence.cli.app import app
from persistence.outbox import Worker
from persistence.outbox.builtin import WebhookSettings
from persistence.settings import Settings
from tests.e2e.test_command_line import environment, typed

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_service_works_as_printed(tmp_path: Path) -> None:
    """On a fresh machine, and a second time; then a worker delivers what it asked for."""
    data_dir = str(tmp_path)

    def told() -> str:
        done = subprocess.run(
            [sys.executable, "-c", BLOCKS[0]],
            env=environment(PERSISTENCE_DATA_DIR=data_dir),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    command = told().split()
    assert command[:2] == ["persistence", "trace"]
    assert "step 0 charge COMPLETED" in typed(*command[1:], "--data-dir", data_dir)
    assert "nothing to do" in told()
    assert typed("runs", "list", "--data-dir", data_dir).count("order") == 1


def test_the_worker_works_as_printed() -> None:
    names: dict[str, object] = {}
    [block] = [block for block in BLOCKS if "worker = Worker()" in block]
    exec(block, names)
    worker = names["worker"]
    assert isinstance(worker, Worker)
    assert worker.handlers["SEND_EMAIL"].max_attempts == 10


def test_every_command_exists() -> None:
    table = README.partition("## Commands")[2].partition("## Your own")[0]
    commands = re.findall(r"^\| `persistence ([a-z]+)(?: ([a-z]+))?", table, flags=re.MULTILINE)
    assert len(commands) == 35
    for command, sub in commands:
        shown = CliRunner().invoke(app, [command, *([sub] if sub else []), "--help"])
        assert shown.exit_code == 0, command
        assert "Usage" in shown.output


def test_make_has_the_targets_that_are_named() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z]+)", README):
        assert f"\n{target}:" in makefile


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    names = [f"PERSISTENCE_{field.upper()}" for field in Settings.model_fields]
    names += [f"PERSISTENCE_WEBHOOK_{field.upper()}" for field in WebhookSettings.model_fields]
    assert [name for name in names if f"`{name}`" not in page] == []

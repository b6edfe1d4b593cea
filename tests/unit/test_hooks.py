"""The pre-commit hooks and the reusable workflow call commands that exist, with options that exist."""

import re
import shlex
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from persistence.cli.app import app
from persistence.resources import PACKAGE

ROOT = PACKAGE.parent
HOOKS: list[dict[str, Any]] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "fit.yml").read_text())
STEPS: list[dict[str, Any]] = WORKFLOW["jobs"]["fit"]["steps"]
COMMANDS = [hook["entry"] for hook in HOOKS] + [step["run"] for step in STEPS if step.get("run", "").startswith("persistence ")]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_and_options_exist(command: str) -> None:
    words = shlex.split(re.sub(r"\$\{\{.*?\}\}", "", command).partition(">")[0])[1:]
    named = [word for word in words if not word.startswith("-")][:2]
    named = named[:1] if named == ["fit"] or (len(named) == 2 and named[1] in {"sarif", "github"}) else named
    path = [*named, "run"] if named == ["fit"] else named
    group: Any = typer.main.get_command(app)
    for word in path:
        group = group.commands[word]
    options = {option for parameter in group.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    assert CliRunner().invoke(app, [*path, "--help"]).exit_code == 0


def test_the_workflow_is_for_others_to_call() -> None:
    called = WORKFLOW[True]["workflow_call"]  # YAML reads `on` as true
    used = set(re.findall(r"inputs\.([\w-]+)", str(WORKFLOW)))
    assert used == set(called["inputs"])
    assert set(re.findall(r"secrets\.([\w-]+)", str(STEPS))) == set(called["secrets"])
    assert {hook["id"] for hook in HOOKS} == {"persistence-fit-code", "persistence-fit", "persistence-canon-check"}

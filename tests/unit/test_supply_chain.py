"""What is installed, built on and shipped is named by digest, and by no address."""

import re
import tomllib
from hashlib import sha256
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from persistence.resources import PACKAGE

ROOT = PACKAGE.parent
DIGEST = r"@sha256:[0-9a-f]{64}$"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OWN = "persistence-plane["


def locked(name: str) -> dict[str, str]:
    """Version by package."""
    found: dict[str, str] = {}
    for entry in (ROOT / "requirements" / name).read_text().replace("\\\n", " ").splitlines():
        match = re.match(r"^([\w.-]+)==([^ ;]+)(?: ;[^-]*?)? +(--hash=sha256:[0-9a-f]{64} *)+$", entry)
        assert match, entry[:200]
        found[canonicalize_name(match[1])] = match[2]
    return found


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("run.txt", PROJECT["dependencies"]),
        ("dev.txt", [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra if not one.startswith(OWN))]),
    ],
)
def test_what_the_project_asks_for_is_locked_with_digests(name: str, wanted: list[str]) -> None:
    versions = locked(name)
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)], prereleases=True), requirement


@pytest.mark.parametrize("path", ["requirements/run.txt", "requirements/dev.txt", "Makefile", "Dockerfile"])
def test_no_address_of_a_registry_is_named(path: str) -> None:
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", (ROOT / path).read_text())


def test_images_are_named_by_digest() -> None:
    images = re.findall(r"^\s*image: (\S+)", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE)
    images += re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(images) == 5
    for image in images:
        assert re.search(DIGEST, image), image


def test_actions_are_named_by_commit() -> None:
    workflows = list((ROOT / ".github" / "workflows").glob("*.yml"))
    actions = [action for path in workflows for action in re.findall(r"^\s*(?:- )?uses: (\S+)", path.read_text(), re.MULTILINE)]
    assert len(actions) == 3
    for action in actions:
        assert re.search(r"@[0-9a-f]{40}$", action), action


def test_files_of_others_are_what_their_page_says() -> None:
    folder = ROOT / "persistence" / "service" / "console" / "static" / "vendor"
    rows = dict(re.findall(r"^\| `([\w.-]+)` \|.*\| `([0-9a-f]{64})` \|$", (folder / "README.md").read_text(), re.MULTILINE))
    files = {path.name: path for path in folder.iterdir() if path.suffix in {".js", ".css"}}
    assert rows == {name: sha256(Path(path).read_bytes()).hexdigest() for name, path in files.items()}

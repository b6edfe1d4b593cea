"""A folder that is closed to others stays closed to others when a server gets its data below it."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from persistence.database.passage import let_through
from persistence.database.programs import hand_over, server_uid

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands folders to another user")
SOMEBODY = 54321


def _reaches(path: Path, uid: int) -> bool:
    return (
        subprocess.run(["stat", str(path)], user=uid, group=uid, extra_groups=[], capture_output=True, check=False).returncode == 0
    )


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    for folder in reversed(tmp_path.parents):
        let_through(folder, SOMEBODY)
        let_through(folder, server_uid())
    (tmp_path / "home" / "data").mkdir(parents=True)
    tmp_path.chmod(0o755)
    (tmp_path / "home").chmod(0o700)
    return tmp_path / "home"


def test_the_server_comes_through_and_nobody_else(closed: Path) -> None:
    hand_over(closed / "data")
    assert _reaches(closed / "data", server_uid())
    assert not _reaches(closed / "data", SOMEBODY)
    mode = closed.stat().st_mode
    assert not mode & stat.S_IRWXO
    (closed / "letter").write_text("private")
    assert subprocess.run(["ls", str(closed)], user=server_uid(), capture_output=True, check=False).returncode != 0


def test_what_others_were_allowed_stays(closed: Path) -> None:
    let_through(closed, SOMEBODY)
    hand_over(closed / "data")
    hand_over(closed / "data")
    assert _reaches(closed / "data", server_uid())
    assert _reaches(closed / "data", SOMEBODY)


def test_who_was_shut_out_stays_shut_out(closed: Path) -> None:
    """A list may allow what its mask takes back, as chmod does."""
    let_through(closed, SOMEBODY)
    closed.chmod(0o700)
    assert not _reaches(closed / "data", SOMEBODY)
    hand_over(closed / "data")
    assert _reaches(closed / "data", server_uid())
    assert not _reaches(closed / "data", SOMEBODY)


def test_open_folders_are_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    let_through(tmp_path, SOMEBODY)
    assert os.listxattr(tmp_path) == []

"""The wheel alone, in an empty environment, can migrate and work."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_the_wheel_alone_does_the_main_job(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT], check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for part in ("persistence/py.typed", "persistence/bundled/canon/event_types.yaml", "persistence/bundled/migrations/env.py"):
        assert part in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]

    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    binaries = environment / "bin"
    subprocess.run([binaries / "pip", "install", "--quiet", "--disable-pip-version-check", wheel], check=True, capture_output=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PERSISTENCE_", "PYTHON"))}
    done = subprocess.run(
        [binaries / "persistence", "demo", "--data-dir", tmp_path / "data"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=kept,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "RUN_COMPLETED" in done.stdout

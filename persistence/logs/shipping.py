"""Lines on their way to Logstash, or to whoever takes JSON Lines by TCP.

They are read from the files, so what buffers them is the disk, and the bound is what logging.yaml says of files: whoever is away for an hour gets
that hour. How far the other side has them is kept in ``.shipped.json``; it goes on when the receiver's machine has acknowledged what was sent, so
after a lost connection a few lines may come twice, and none is missing. Files that were removed before are counted, and said.
"""

import fcntl
import os
import select
import socket
import struct
import termios
import threading
import time
from contextlib import suppress
from typing import Any, Final

import orjson

from persistence.logs.configuration import LogstashConfig
from persistence.logs.reading import Followed, log_files
from persistence.logs.sink import LogSink
from persistence.telemetry import LOG_LINES_SHIPPED
from persistence.workspaces.jail import FILE_MODE

_CHECKPOINT: Final = ".shipped.json"
_LOCK: Final = ".shipping.lock"
_PAUSE: Final = 0.2
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 30.0
_TIMEOUT: Final = 10.0
_SIOCOUTQ: Final = getattr(termios, "TIOCOUTQ", 0x5411)


class Shipper:
    """Sends the lines of a folder. One process of a machine does so at a time; the others stand by."""

    def __init__(self, sink: LogSink, target: LogstashConfig) -> None:
        self.folder = sink.output.parent
        self._sink = sink
        self._target = target
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="persistence-logstash", daemon=True)
        self._places: dict[str, dict[str, int]] = {}
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _keep(self) -> None:
        lock = -1
        try:
            while not self._stop.is_set():
                try:
                    self.folder.mkdir(parents=True, exist_ok=True)
                    if lock < 0:
                        lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE)
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    self._stop.wait(1.0)
                    continue
                self._ship()
        finally:
            if lock >= 0:
                os.close(lock)

    def _ship(self) -> None:
        wait, is_known = _FIRST_WAIT, True
        self._places = self._read_places()
        while not self._stop.is_set():
            try:
                with socket.create_connection((self._target.host, self._target.port), timeout=_TIMEOUT) as connection:
                    if not is_known:
                        self._sink.put(
                            "info", "system:logs", "logstash_back", f"{self._target.host}:{self._target.port} takes lines again"
                        )
                    wait, is_known = _FIRST_WAIT, True
                    self._send_all(connection)
            except OSError as error:
                if is_known:
                    is_known = False
                    where = f"{self._target.host}:{self._target.port}"
                    self._sink.put(
                        "warning", "system:logs", "logstash_away", f"{where}: {error}; lines stay in their files meanwhile"
                    )
                self._stop.wait(wait)
                wait = min(wait * 2, _LONGEST_WAIT)

    def _send_all(self, connection: socket.socket) -> None:
        while not self._stop.is_set():
            sent = 0
            for path in log_files(self.folder):
                place = self._places.get(path.name)
                one = Followed(path, inode=place["inode"] if place else None, offset=place["offset"] if place else 0)
                if one.is_lost:
                    self._sink.put(
                        "error", "system:logs", "lines_not_shipped", f"{path.name}: a file was removed before it was sent"
                    )
                    one = Followed(path)
                while not self._stop.is_set() and (block := one.read()):
                    connection.sendall(block)
                    self._wait_until_taken(connection)
                    count = block.count(b"\n")
                    LOG_LINES_SHIPPED.inc(count)
                    sent += count
                    assert one.inode is not None
                    self._places[path.name] = {"inode": one.inode, "offset": one.offset}
                    self._write_places()
            if not sent:
                self._check(connection)
                self._stop.wait(_PAUSE)

    def _wait_until_taken(self, connection: socket.socket) -> None:
        """Until the other machine has acknowledged everything. Raises OSError where it does not."""
        deadline = time.monotonic() + _TIMEOUT
        while True:
            self._check(connection)
            try:
                [waiting] = struct.unpack("i", fcntl.ioctl(connection.fileno(), _SIOCOUTQ, struct.pack("i", 0)))
            except OSError:
                return  # nobody can say here
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise TimeoutError("what was sent is not acknowledged")
            time.sleep(0.001)

    def _check(self, connection: socket.socket) -> None:
        """Raises OSError where the other side has gone."""
        readable, _, _ = select.select([connection], [], [], 0)
        if readable and connection.recv(4096) == b"":
            raise ConnectionError("the receiver has closed the connection")

    def _read_places(self) -> dict[str, dict[str, int]]:
        try:
            said: Any = orjson.loads((self.folder / _CHECKPOINT).read_bytes())
            return {str(name): {"inode": int(place["inode"]), "offset": int(place["offset"])} for name, place in said.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _write_places(self) -> None:
        new = self.folder / f"{_CHECKPOINT}.new"
        with suppress(OSError):
            new.write_bytes(orjson.dumps(self._places))
            new.replace(self.folder / _CHECKPOINT)

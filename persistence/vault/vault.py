"""The vault of a process: locked, or open for a while."""

import os
import threading
import time
from base64 import b32encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from persistence.errors import ConfigurationError, Conflict, InvalidInput, UnlockRefused, VaultDamaged, VaultLocked
from persistence.vault.aead import KEY_BYTES
from persistence.vault.attempts import Attempts, TooSoon, attempting
from persistence.vault.configuration import VaultConfig
from persistence.vault.derivation import from_text, to_text
from persistence.vault.document import Document, decode
from persistence.vault.file import VaultFile
from persistence.vault.key_memory import wipe
from persistence.vault.keys import Keys, Opener
from persistence.workspaces.jail import FILE_MODE, make_folder

T = TypeVar("T")

SHORTEST_PASSPHRASE: Final = 12
_STEP: Final = 30
_MARK: Final = "locked"
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_OTHER: Final = (
    "unlock it: persistence vault unlock, or set PERSISTENCE_VAULT_KEY, PERSISTENCE_VAULT_KEY_FILE or PERSISTENCE_VAULT_PASSPHRASE"
)


class Vault:
    """Opens the vault's file, keeps its keys for as long as they are used, and empties them after that.

    What the environment gives (``openers``) opens it again when it is needed, unless somebody locked it by command. Safe to share among threads.
    """

    def __init__(self, folder: Path, config: VaultConfig | None = None, openers: Sequence[Opener] = ()) -> None:
        """folder: where its file is. openers: to open it with by itself."""
        self.config = config or VaultConfig()
        self.file = VaultFile(folder)
        self.on_use: Callable[[str], None] = lambda what: None
        """Told of ``unlocked``, ``locked`` and ``refused``, from whichever thread it happened in."""
        self._openers = tuple(openers)
        self._keys: Keys | None = None
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._refused: tuple[tuple[int, int, int] | None, str] | None = None
        self._used_at = self._opened_at = 0.0
        self._stamp: tuple[int, int, int] | None = None
        self._process = os.getpid()

    @property
    def exists(self) -> bool:
        """Whether there is a vault."""
        return self.file.is_there

    @property
    def is_unlocked(self) -> bool:
        with self._lock:
            self._lock_if_over()
            return self._keys is not None and self._process == os.getpid()

    @property
    def is_locked_by_command(self) -> bool:
        """Whether somebody said that nobody on this machine is to open it by itself."""
        return os.path.lexists(self.file.folder / _MARK)

    def document(self) -> Document:
        """What the file says to everybody. Not proven while the vault is locked. Raises NoVault, VaultDamaged."""
        return decode(self.file.read(), str(self.file.path))

    def create(self, openers: Sequence[Opener]) -> Document:
        """Makes the vault, and leaves it open. Raises Conflict where there is one."""
        for opener in openers:
            check_opener(opener)
        with self._lock, self.file.locked():
            if self.exists:
                raise Conflict(f"there is a vault in {self.file.folder} already", hint="persistence vault status")
            keys = Keys.made(openers, self.config.derivation, self.config.iterations)
            self.file.replace(keys.encoded())
            self._open(keys)
            return keys.document

    def unlock(self, opener: Opener, code: str | None = None) -> Document:
        """Opens it, and ends a lock by command. code: the one-time code, where the vault asks for one with a passphrase.

        Raises UnlockRefused for what does not open it, or too soon after that; VaultDamaged; NoVault.
        """
        document = self._unlock(opener, code)
        with suppress(OSError):  # a folder that cannot be written has no mark either
            (self.file.folder / _MARK).unlink(missing_ok=True)
        return document

    def _unlock(self, opener: Opener, code: str | None = None) -> Document:
        with self._lock:
            try:
                if opener.kind == "passphrase":
                    with self.file.locked(), attempting(self.file.folder) as attempts:
                        keys = self._tried(opener)
                        self._check_code(keys, code, attempts)
                        attempts.failures = 0
                else:
                    keys = self._tried(opener)
            except TooSoon:
                raise  # nothing was tried
            except UnlockRefused:
                self.on_use("refused")
                raise
            self._open(keys)
            return keys.document

    def lock(self) -> bool:
        """Empties all keys at once. Whether it was open."""
        with self._lock:
            keys, self._keys = self._keys, None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if keys is None:
                return False
            keys.wipe()
        self.on_use("locked")
        return True

    def lock_everywhere(self) -> None:
        """Locks it in all processes of this machine, until somebody unlocks it: what the environment gives does not."""
        make_folder(self.file.folder)
        with suppress(FileExistsError):
            os.close(os.open(self.file.folder / _MARK, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
        self.lock()

    def use(self, work: Callable[[Keys], T]) -> T:
        """What ``work`` makes of the keys. It must not keep them. Raises VaultLocked, or what opening raises."""
        with self._lock:
            keys = self._open_keys()
            self._used_at = time.clock_gettime(_CLOCK)
            return work(keys)

    def change(self, step: Callable[[Keys], Keys], then: Callable[[Document], None] = lambda document: None) -> Document:
        """Writes another generation of the document. then: is told of it before anybody else can write the next one."""
        with self.file.locked():
            with self._lock:
                keys = self._open_keys()
                changed = step(keys)
                if changed is keys:
                    return keys.document
                try:
                    self.file.replace(changed.encoded())
                except BaseException:
                    changed.wipe()
                    raise
                self._keys, self._stamp = changed, _stamp_of(self.file.path)
                keys.wipe()
            then(changed.document)
            return changed.document

    def _open_keys(self) -> Keys:
        self._lock_if_over()
        self._look_at_file()
        if self._keys is None:
            self._open_by_itself()
        if self._keys is None:
            raise VaultLocked("the vault is locked", hint=_OTHER)
        return self._keys

    def _look_at_file(self) -> None:
        """Takes on what another process made of the file: a later term above all. What was rekeyed has to be opened anew."""
        if self._process != os.getpid():
            self._keys = None  # what a forked process has of it is zeros
        if self._keys is None or (stamp := _stamp_of(self.file.path)) == self._stamp:
            return
        raw, where = self.file.read(), str(self.file.path)
        keys = self._keys
        try:
            self._keys = keys.reopened(decode(raw, where), raw, where)
            self._stamp = stamp
        except VaultDamaged:
            self.lock()
            return
        keys.wipe()
        self.on_use("reopened")

    def _open_by_itself(self) -> None:
        if not self.config.enabled:
            raise ConfigurationError("the vault is switched off", hint="vault_config.yaml: vault: enabled: true")
        if not self.exists or self.is_locked_by_command:
            self.file.read()  # says that there is none
            raise VaultLocked("the vault was locked by command", hint="persistence vault unlock")
        for opener in self._openers:
            stamp = _stamp_of(self.file.path)
            if (
                self._refused is not None and self._refused[0] == stamp
            ):  # tried again it would shut out others, who have to wait after each
                raise UnlockRefused(
                    f"what this process was started with does not open the vault: {self._refused[1]}",
                    hint="start it again with something that does; persistence vault status lists what that could be",
                )
            try:
                self._unlock(Opener(opener.kind, bytearray(opener.secret), opener.name))
            except TooSoon:
                raise
            except UnlockRefused as error:
                self._refused = stamp, error.message
                raise
            if self.is_locked_by_command:  # meanwhile
                self.lock()
                raise VaultLocked("the vault was locked by command", hint="persistence vault unlock")
            return

    def _open(self, keys: Keys) -> None:
        before, self._keys = self._keys, keys
        self._stamp, self._process = _stamp_of(self.file.path), os.getpid()
        if before is not None:
            before.wipe()
        self._opened_at = self._used_at = time.clock_gettime(_CLOCK)
        self._watch()
        self.on_use("unlocked")

    def _remaining(self) -> float:
        now = time.clock_gettime(_CLOCK)
        left = self._used_at + self.config.auto_lock_timeout.total_seconds() - now
        if self.config.max_unlocked is not None:
            left = min(left, self._opened_at + self.config.max_unlocked.total_seconds() - now)
        return left

    def _lock_if_over(self) -> None:
        if self._keys is not None and (self._remaining() <= 0 or self.is_locked_by_command):
            self.lock()

    def _watch(self) -> None:
        """Locks it when nobody asks any more; looks every second whether somebody locked it by command."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(min(1.0, max(0.01, self._remaining())), self._look)
        self._timer.daemon = True
        self._timer.start()

    def _look(self) -> None:
        with self._lock:
            self._lock_if_over()
            if self._keys is not None:
                self._watch()

    def _tried(self, opener: Opener) -> Keys:
        raw, where = self.file.read(), str(self.file.path)
        keys = Keys.opened(decode(raw, where), raw, opener, where)
        wipe(opener.secret)
        if keys is None:
            raise UnlockRefused(f"this {opener.kind} does not open the vault", hint="persistence vault status lists what does")
        return keys

    def _check_code(self, keys: Keys, code: str | None, attempts: Attempts) -> None:
        secret = keys.second_factor()
        if secret is None:
            return
        step = matching_step(secret, code or "", attempts.last_step)
        wipe(secret)
        if step is None:
            keys.wipe()
            raise UnlockRefused(
                "this vault asks for a one-time code, too" if not code else "the one-time code is wrong, or was used already",
                hint="give the one that your authenticator shows: --code",
            )
        attempts.last_step = step


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat(follow_symlinks=False)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def check_opener(opener: Opener) -> None:
    """Raises InvalidInput for a secret that protects nothing."""
    if opener.kind == "passphrase" and len(opener.secret) < SHORTEST_PASSPHRASE:
        raise InvalidInput(f"passphrase: has fewer than {SHORTEST_PASSPHRASE} bytes", hint="use several words", field="passphrase")
    if opener.kind != "passphrase" and len(opener.secret) != KEY_BYTES:
        raise InvalidInput(
            f"{opener.kind}: is no key of {KEY_BYTES} bytes", hint="persistence vault unlockers add makes one", field=opener.kind
        )


def key_from(text: str, where: str) -> bytearray:
    """A key of 32 bytes as base64. Raises ConfigurationError."""
    try:
        raw = from_text(text.strip())
    except ValueError:
        raw = b""
    if len(raw) != KEY_BYTES:
        raise ConfigurationError(
            f"{where}: is no key of {KEY_BYTES} bytes in base64", hint="persistence vault unlockers add makes one"
        )
    return bytearray(raw)


def read_key_file(path: Path) -> bytearray:
    """The key of a key file. Raises ConfigurationError, also for one that others may read."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(1024).decode("ascii", "replace")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigurationError(f"{path}: others than its owner may read it", hint=f"chmod 600 {path}")
    return key_from(text, str(path))


def write_key_file(path: Path) -> bytearray:
    """Makes a key file, for its owner alone. Raises ConfigurationError where there is something already."""
    key = bytearray(os.urandom(KEY_BYTES))
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "w") as file:
            file.write(to_text(key) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be made: {error.strerror}") from error
    return key


def matching_step(secret: bytearray, code: str, last_step: int) -> int | None:
    """The time step of a one-time code (RFC 6238: SHA-1, six digits, 30 s), if it is of now, one before or after, and newer than the last."""
    now = int(time.time()) // _STEP
    totp = TOTP(bytes(secret), 6, SHA1(), _STEP)  # noqa: S303
    for step in (now, now - 1, now + 1):
        if step > last_step and totp.generate(step * _STEP) == code.encode():
            return step
    return None


def otpauth(secret: bytearray, vault_id: UUID) -> str:
    """What an authenticator reads, as text or in a QR code."""
    return f"otpauth://totp/{quote(f'persistence:{vault_id}')}?secret={b32encode(secret).decode().rstrip('=')}&issuer=persistence"

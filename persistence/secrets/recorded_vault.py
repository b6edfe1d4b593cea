"""The vault as a process with a database has it: opened by what the environment gives, held to what the log knows, each use on the record."""

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

import asyncpg

from persistence.database.retry import fetched
from persistence.encoding import encode
from persistence.errors import UnlockRefused, VaultDamaged
from persistence.logs.redaction import SHARED
from persistence.settings import Settings
from persistence.vault import Keys, Opener, Vault, read_vault_config
from persistence.vault.document import Document
from persistence.vault.vault import key_from, read_key_file

T = TypeVar("T")

LATER: Final = "later"
"""The folder beside a restored vault's file that has the file of before the restore: it knows what was erased since."""

_RECORDING: Final = 60.0

Change = Literal[
    "created",
    "rotated",
    "terms_ended",
    "rekeyed",
    "unlocker_added",
    "second_factor_set",
    "second_factor_removed",
    "entry_set",
    "entry_removed",
    "rewrapped",
    "subjects_erased",
    "restored",
    "noticed",
]

# Records a change of the vault's file.
_CHANGED = "SELECT persistence.record_vault_change($1::text::jsonb, $2)"

# Records a use of the vault.
_USED = "SELECT persistence.record_vault_use($1::text::jsonb, $2)"

# The last generation that was recorded.
_GENERATION = "SELECT persistence.vault_generation($1)"


def openers_of(settings: Settings) -> list[Opener]:
    """What the settings open the vault with. Raises ConfigurationError for a key that is none."""
    openers = []
    if settings.vault_key is not None:
        openers.append(Opener("environment", key_from(settings.vault_key.get_secret_value(), "PERSISTENCE_VAULT_KEY")))
    if settings.vault_key_file is not None:
        openers.append(Opener("key-file", read_key_file(settings.vault_key_file)))
    if settings.vault_passphrase is not None:
        openers.append(Opener("passphrase", bytearray(settings.vault_passphrase.get_secret_value().encode())))
    return openers


def vault_folder(settings: Settings) -> Path:
    """Where the vault is. Raises ConfigurationError."""
    return read_vault_config(settings.config_folder).mount_path or settings.data_dir / "vault"


def open_vault(settings: Settings) -> Vault:
    """The vault of these settings, locked. Raises ConfigurationError."""
    return Vault(vault_folder(settings), read_vault_config(settings.config_folder), openers_of(settings))


class RecordedVault:
    """Uses a vault, and records it in the log of the system tenant: opened, locked, refused, changed."""

    def __init__(self, vault: Vault, pool: asyncpg.Pool, settings: Settings, actor: str) -> None:
        """actor: in whose name this process opens it."""
        self.vault = vault
        self.actor = actor
        self._pool = pool
        self._settings = settings
        self._untold: deque[dict[str, Any]] = deque(maxlen=1000)
        self._telling = asyncio.Lock()
        self._checked: UUID | None = None
        self.accepts_older = False
        """Whether a file may be older than the log knows."""
        vault.on_use = self.note

    async def use(self, work: Callable[[Keys], T]) -> T:
        """What ``work`` makes of the keys, which it must not keep; opens the vault where the environment can. Raises VaultLocked."""
        await self.ready()
        return self.vault.use(work)

    async def ready(self) -> None:
        """The vault is open, it is this log's, and that it was opened is on the record. Raises VaultLocked, VaultDamaged."""
        if not self.vault.is_unlocked:
            self._checked = None
            try:
                await asyncio.to_thread(self.vault.use, lambda keys: None)
            finally:
                await self.tell()
        if self._checked is None:
            document = self.vault.use(lambda keys: keys.document)
            await self._check(document)
            self._checked = document.vault_id
        if self._untold:
            await self.tell()

    async def unlock(self, opener: Opener, code: str | None = None) -> Document:
        """Opens it with what somebody gives, and records it. Raises UnlockRefused, VaultDamaged, NoVault."""
        try:
            document = await asyncio.to_thread(self.vault.unlock, opener, code)
        except (UnlockRefused, VaultDamaged):
            await self.tell()
            raise
        await self.ready()
        return document

    async def changed(self, change: Change, name: str | None = None, *, step: Callable[[Keys], Keys] | None = None) -> Document:
        """Writes another generation of the vault's file, and records why. step: None: it was written already."""
        if step is None:
            document = self.vault.use(lambda keys: keys.document)
        else:
            await self.ready()
            loop = asyncio.get_running_loop()

            def record(written: Document) -> None:
                asyncio.run_coroutine_threadsafe(self._record(written, change, name), loop).result(_RECORDING)

            return await asyncio.to_thread(self.vault.change, step, record)
        await self._record(document, change, name)
        return document

    async def tell(self) -> None:
        """Records what happened since."""
        async with self._telling:
            while self._untold:
                await fetched(self._pool, self._settings, _USED, encode(self._untold[0]), self.actor)
                self._untold.popleft()

    async def note_entry(self, name: str) -> None:
        """Records that an entry of the file is about to be read."""
        self.note("entry_read", name=name)
        await self.tell()

    async def _record(self, document: Document, change: Change, name: str | None) -> None:
        said: dict[str, Any] = {"vault_id": document.vault_id, "generation": document.generation, "change": change}
        if name is not None:
            said["name"] = name
        await fetched(self._pool, self._settings, _CHANGED, encode(said), self.actor)

    async def _check(self, document: Document) -> None:
        rows = await fetched(self._pool, self._settings, _GENERATION, document.vault_id)
        recorded = rows[0][0]
        if recorded is not None and document.generation < recorded and not self.accepts_older:
            self.vault.lock()
            raise VaultDamaged(
                f"{self.vault.file.path}: is of generation {document.generation}; the log knows of {recorded}",
                hint="put the later file back; where it is lost for good: persistence vault accept-older",
            )

    def note(self, use: str, **more: str) -> None:
        """Remembers a use of the vault, for ``tell``. From any thread."""
        try:
            document = self.vault.document()
        except Exception:
            return  # without a vault nothing was used
        if use == "reopened":
            self._checked = None
            return
        said: dict[str, Any] = {"vault_id": str(document.vault_id), "use": use, **more}
        if use in {"unlocked", "locked"}:
            self._checked = None
            SHARED.forget_values()
            said["generation"] = document.generation
        self._untold.append(said)

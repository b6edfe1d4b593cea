"""The models and stores of one process, as ``vector_config.yaml`` says: opened when they are needed, and the file read again when it changes."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import UUID

import structlog

from persistence.errors import ConfigurationError
from persistence.models import MemoryIndex
from persistence.plane import Plane
from persistence.stores.memory.configuration import FILE, VectorConfig, read_vector_config
from persistence.stores.memory.models import AskForKey, EmbeddingModel, Vector, open_model
from persistence.stores.memory.vectors import VectorStore, open_store

_LOOK_EVERY: Final = 1.0
_KEY_HELD: Final = 60.0
_ACTOR: Final = "system:memory"

_log = structlog.get_logger(__name__)


class Backends:
    """Use it as ``async with Backends(plane) as backends``. config: none: that of the configuration folder, which is read again when it changes."""

    def __init__(self, plane: Plane, config: VectorConfig | None = None) -> None:
        self.plane = plane
        self._file: Path | None = None if config is not None else plane.settings.config_folder / FILE
        self._config = config or read_vector_config(plane.settings.config_folder)
        self._seen = self._state()
        self._looked = time.monotonic()
        self._models: dict[str, EmbeddingModel] = {}
        self._stores: dict[tuple[str, UUID], VectorStore] = {}
        self._keys: dict[tuple[UUID, str], tuple[str, float]] = {}
        self._open = AsyncExitStack()
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stores.clear()
        self._keys.clear()
        await self._open.aclose()

    @property
    def config(self) -> VectorConfig:
        """What the file says by now. One that cannot be read leaves what it said before, and is in the log."""
        now = time.monotonic()
        if self._file is not None and now - self._looked > _LOOK_EVERY:
            self._looked = now
            state = self._state()
            if state != self._seen:
                self._seen = state
                try:
                    config = read_vector_config(self._file.parent)
                except ConfigurationError as error:
                    _log.error("vector_config_not_read", error=str(error), remains="what it said before")
                else:
                    if config != self._config:
                        _log.info("vector_config_read", model=config.embedding_model, provider=config.provider)
                        self._config = config
                        self._models.clear()
        return self._config

    @property
    def asks_for_keys(self) -> bool:
        """Whether the model or the store that new vectors are made with takes a secret of the vault."""
        config = self.config
        return config.store_key is not None or self.model().asks_for_key

    def model(self, name: str | None = None) -> EmbeddingModel:
        """A model by its name; none: the one that new indexes are made with. Raises ConfigurationError."""
        name = name or self.config.embedding_model
        if name not in self._models:
            self._models[name] = open_model(name, self.config)
        return self._models[name]

    async def store(self, tenant_id: UUID, name: str) -> VectorStore:
        """A tenant's part of a store. Raises ConfigurationError, StoreFailed."""
        async with self._opening:
            if (name, tenant_id) not in self._stores:
                opened = open_store(name, self.plane, tenant_id, self.config, self.key_of(tenant_id))
                self._stores[name, tenant_id] = await self._open.enter_async_context(opened)
            return self._stores[name, tenant_id]

    def key_of(self, tenant_id: UUID, because: UUID | None = None, correlation_id: UUID | None = None) -> AskForKey:
        """How a model or a store asks for a secret of the tenant. Each reading is on the record; what was read is held for a minute."""

        async def ask(name: str) -> str:
            held = self._keys.get((tenant_id, name))
            if held is not None and time.monotonic() - held[1] < _KEY_HELD:
                return held[0]
            value = await self.plane.secrets.read(
                tenant_id, name, purpose="vectors of memories", actor=_ACTOR, because=because, correlation_id=correlation_id
            )
            with value:
                self._keys[tenant_id, name] = value.text, time.monotonic()
                return value.text

        return ask

    async def vector(self, tenant_id: UUID, index: MemoryIndex, text: str) -> Vector:
        """The vector of a text that is searched for. Raises what the index's model raises."""
        [vector] = await self.model(index.model).embed([text], self.key_of(tenant_id))
        return vector

    def _state(self) -> tuple[int, int, int] | None:
        try:
            found = self._file.stat() if self._file is not None else None
        except OSError:
            return None
        return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)

"""Models of a server: one that speaks as OpenAI does, and Ollama."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx2

from persistence.stores.memory.configuration import VectorConfig
from persistence.stores.memory.models import AskForKey, ModelFailed, Overloaded, Unembeddable, Vector, normalised

_KNOWN_DIMENSIONS: Final = {"text-embedding-ada-002": 1536, "text-embedding-3-small": 1536, "text-embedding-3-large": 3072}
_NO_KEY: Final = "none"
_TIMEOUT: Final = 60.0
_BUSY: Final = frozenset({408, 429, 503, 529})
_REFUSED: Final = frozenset({400, 413, 422})
_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 3600.0
_SAID: Final = 300


class _Remote:
    """A model that is asked by HTTP."""

    at_once = 256
    asks_for_key = False
    _path: str

    def __init__(self, name: str, model: str, url: str, dimensions: int | None) -> None:
        self.name = name
        self._model = model
        self._url = url.rstrip("/")
        self._dimensions = dimensions
        self._client: httpx2.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def dimensions(self) -> int | None:
        return self._dimensions

    async def _ask(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
        try:
            answer = await self._connection().post(f"{self._url}{self._path}", json=dict(body), headers=dict(headers))
        except httpx2.HTTPError as error:
            raise ModelFailed(f"{self.name}: {type(error).__name__} at {self._url}: {error}") from error
        if answer.status_code in _BUSY:
            raise Overloaded(f"{self.name}: answered {answer.status_code}", _pause(answer.headers.get("retry-after")))
        if answer.status_code in _REFUSED:
            raise Unembeddable(f"{self.name}: answered {answer.status_code}: {answer.text[:_SAID]}")
        if answer.status_code != 200:
            raise ModelFailed(f"{self.name}: answered {answer.status_code}: {answer.text[:_SAID]}")
        try:
            return answer.json()
        except ValueError as error:
            raise ModelFailed(f"{self.name}: its answer is no JSON") from error

    def _connection(self) -> httpx2.AsyncClient:
        """A client belongs to the event loop that it was made in."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            # fit: allow outside_call because a vector decides nothing, and what asks for those that are kept is an effect
            self._client, self._loop = httpx2.AsyncClient(timeout=_TIMEOUT), loop
        return self._client

    def _checked(self, vectors: Sequence[Any], texts: Sequence[str]) -> list[Vector]:
        if len(vectors) != len(texts):
            raise ModelFailed(f"{self.name}: gave {len(vectors)} vectors for {len(texts)} texts")
        try:
            made = [normalised([float(number) for number in vector], self.name, self._dimensions) for vector in vectors]
        except (TypeError, ValueError) as error:
            raise ModelFailed(f"{self.name}: gave something else than numbers") from error
        if made:
            self._dimensions = len(made[0])
        return made


class OpenAiModel(_Remote):
    """``POST /embeddings``, as OpenAI has it."""

    _path = "/embeddings"

    def __init__(self, name: str, config: VectorConfig) -> None:
        super().__init__(name, name, config.embedding_url, config.dimensions or _KNOWN_DIMENSIONS.get(name))
        self._key = config.embedding_key
        self.asks_for_key = self._key != _NO_KEY
        self._asked_dimensions = config.dimensions

    async def embed(self, texts: Sequence[str], key: AskForKey) -> list[Vector]:
        """As EmbeddingModel says."""
        headers = {} if self._key == _NO_KEY else {"Authorization": f"Bearer {await key(self._key)}"}
        body: dict[str, Any] = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        if self._asked_dimensions is not None:
            body["dimensions"] = self._asked_dimensions
        answer = await self._ask(body, headers)
        try:
            items = sorted(answer["data"], key=lambda item: item["index"])
            vectors = [item["embedding"] for item in items]
        except (KeyError, TypeError) as error:
            raise ModelFailed(f"{self.name}: its answer has no data with index and embedding") from error
        return self._checked(vectors, texts)


class OllamaModel(_Remote):
    """``POST /api/embed``, as Ollama has it. Its address is host and port of ``embedding_url``."""

    _path = "/api/embed"

    def __init__(self, model: str, config: VectorConfig) -> None:
        standard = VectorConfig().embedding_url
        url = "http://localhost:11434" if config.embedding_url == standard else config.embedding_url
        super().__init__(f"ollama:{model}", model, url, config.dimensions)

    async def embed(self, texts: Sequence[str], key: AskForKey) -> list[Vector]:
        """As EmbeddingModel says; it asks for no key."""
        answer = await self._ask({"model": self._model, "input": list(texts)}, {})
        try:
            vectors = answer["embeddings"]
        except (KeyError, TypeError) as error:
            raise ModelFailed(f"{self.name}: its answer has no embeddings") from error
        return self._checked(vectors, texts)


def _pause(retry_after: str | None) -> float:
    try:
        return min(max(float(retry_after or _PAUSE), 1.0), _LONGEST_PAUSE)
    except ValueError:
        return _PAUSE

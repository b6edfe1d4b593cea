"""What makes vectors of texts."""

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from persistence.errors import ConfigurationError, PersistenceError
from persistence.stores.memory.configuration import VectorConfig

Vector = list[float]
AskForKey = Callable[[str], Awaitable[str]]
"""Gives the value of a secret by its name."""

_SHORTEST: Final = 1e-12


class Overloaded(PersistenceError):
    """The model takes nothing now. after: seconds until it may."""

    def __init__(self, message: str, after: float) -> None:
        super().__init__(message)
        self.after = after


class Unembeddable(PersistenceError):
    """The model refuses these texts, and would refuse them again: one of them may be what it refuses."""


class ModelFailed(PersistenceError):
    """The model did not answer, or gave something else than vectors; it may do better next time."""


class EmbeddingModel(Protocol):
    """Makes vectors of texts. name: says which model of which provider it is. at_once: so many texts it is given at most.
    asks_for_key: whether it takes a secret of the vault.

    dimensions: None until it has made the first, where it alone knows.
    """

    name: str
    at_once: int
    asks_for_key: bool

    @property
    def dimensions(self) -> int | None: ...

    async def embed(self, texts: Sequence[str], key: AskForKey) -> list[Vector]:
        """A vector for each text, in their order. Raises Overloaded, Unembeddable, ModelFailed, and what ``key`` raises."""


GIVEN: Final = "given:"
"""So the names of models begin that are an application's own: no worker can ask them."""


def open_model(name: str, config: VectorConfig) -> EmbeddingModel:
    """The model of that name; nothing is loaded or asked yet. Raises ConfigurationError."""
    if name.startswith(GIVEN):
        raise ConfigurationError(
            f"embedding_model: {name} is asked by the application that made its index", hint="add it there again"
        )
    kind, _, rest = name.partition(":")
    if name.startswith("hashing"):
        from persistence.stores.memory.models.hashing import FeatureHashing  # noqa: PLC0415

        digits = name.removeprefix("hashing-")
        if not digits.isascii() or not digits.isdigit() or not 16 <= int(digits) <= 4096:
            raise ConfigurationError(f"embedding_model: {name!r} is none", hint="hashing-N, with 16 to 4096 dimensions")
        return FeatureHashing(int(digits))
    if kind == "onnx":
        from persistence.stores.memory.models.onnx import OnnxModel  # noqa: PLC0415

        return OnnxModel(rest)
    from persistence.stores.memory.models.remote import OllamaModel, OpenAiModel  # noqa: PLC0415

    if kind == "ollama":
        return OllamaModel(rest, config)
    return OpenAiModel(name, config)


def normalised(vector: Sequence[float], name: str, dimensions: int | None = None) -> Vector:
    """A vector of length 1. Raises ModelFailed for what is none."""
    if dimensions is not None and len(vector) != dimensions:
        raise ModelFailed(f"{name}: gave {len(vector)} dimensions instead of {dimensions}")
    length = math.sqrt(math.fsum(number * number for number in vector))
    if not math.isfinite(length) or length < _SHORTEST:
        raise ModelFailed(f"{name}: gave a vector of {'zeros' if length < _SHORTEST else 'what is no number'}")
    return [number / length for number in vector]

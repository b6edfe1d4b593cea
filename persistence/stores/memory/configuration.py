"""``vector_config.yaml``."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from persistence.configuration import Duration, PathOption, Section, read_section

FILE: Final = "vector_config.yaml"
SECTION: Final = "vector"

Provider = Literal["pgvector", "qdrant", "chroma", "milvus", "weaviate", "pinecone"]


def _positive(value: Duration) -> Duration:
    if not 0 < value.total_seconds() <= 3600:
        raise ValueError("must be more than nothing, and at most 1h")
    return value


class VectorConfig(Section):
    """Section ``vector``.

    provider: the store that new vectors go to; pgvector is the database itself. host, port, path: of another store: its server, or a folder of this
    machine, which one process at a time may open. store_key: the tenant's secret that it asks for. collection: a prefix for what is made there.
    embedding_model: what makes the vectors: ``hashing-N`` (N dimensions, on this machine), ``onnx:…``, ``ollama:…``, or the name of a model of
    ``embedding_url``, which speaks as OpenAI does. embedding_key: the tenant's secret that it asks for; ``none``: it asks for none.
    mode: streaming (as they come) or batched (every ``sync_interval``, or when ``batch`` have come).
    """

    provider: Provider = "pgvector"
    host: str = Field(default="localhost", min_length=1)
    port: int | None = Field(default=None, ge=1, le=65_535)
    path: PathOption | None = None
    store_key: str | None = None
    collection: str = Field(default="persistence", pattern="^[a-z][a-z0-9_]{0,30}$")
    sync_interval: Annotated[Duration, AfterValidator(_positive)] = Field(default="30s", validate_default=True)
    mode: Literal["streaming", "batched"] = "streaming"
    batch: int = Field(default=256, ge=1, le=1000)
    embedding_model: str = Field(default="hashing-256", min_length=1, max_length=200)
    embedding_url: str = Field(default="https://api.openai.com/v1", pattern="^https?://")
    embedding_key: str = Field(default="openai", min_length=1, max_length=200)
    dimensions: int | None = Field(default=None, ge=1, le=16_000)


def read_vector_config(folder: Path) -> VectorConfig:
    """What the configuration folder says of vectors. Raises ConfigurationError."""
    return read_section(folder / FILE, SECTION, VectorConfig)

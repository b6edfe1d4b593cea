"""What agents remember, by meaning: models that make vectors of texts, stores that keep them, and the search over words and vectors.

Memories themselves are written in transactions (``tx.memories``), with their events. Here is what is made from them, and can be made again.
"""

from persistence.repositories.memory_search import Found, Hit, MemoryFilter
from persistence.stores.memory.backends import Backends
from persistence.stores.memory.configuration import VectorConfig, read_vector_config
from persistence.stores.memory.embedding import Embedder, Request
from persistence.stores.memory.models import EmbeddingModel, ModelFailed, Overloaded, Unembeddable, open_model
from persistence.stores.memory.search import Findings, MemorySearch
from persistence.stores.memory.upkeep import Comparison, Upkeep
from persistence.stores.memory.vectors import StoreFailed, VectorRecord, VectorStore, open_store

__all__ = [
    "Backends",
    "Comparison",
    "Embedder",
    "EmbeddingModel",
    "Findings",
    "Found",
    "Hit",
    "MemoryFilter",
    "MemorySearch",
    "ModelFailed",
    "Overloaded",
    "Request",
    "StoreFailed",
    "Unembeddable",
    "Upkeep",
    "VectorConfig",
    "VectorRecord",
    "VectorStore",
    "open_model",
    "open_store",
    "read_vector_config",
]

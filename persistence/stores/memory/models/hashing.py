"""Feature hashing: vectors of the words and the letters of a text, made here, with nothing to download.

It knows no meaning: texts are near each other that share words, pairs of words, and parts of words. Weinberger et al., Feature Hashing for Large
Scale Multitask Learning (2009).
"""

import asyncio
import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final
from zlib import crc32

from persistence.stores.memory.models import AskForKey, Vector, normalised

_WORD: Final = re.compile(r"\w+")
_LETTERS: Final = 4
_YIELD_AFTER: Final = 32


class FeatureHashing:
    """So many dimensions, on this machine."""

    at_once = 1000
    asks_for_key = False

    def __init__(self, dimensions: int) -> None:
        self.name = f"hashing-{dimensions}"
        self._dimensions = dimensions

    @property
    def dimensions(self) -> int:
        return self._dimensions

    async def embed(self, texts: Sequence[str], key: AskForKey) -> list[Vector]:
        """As EmbeddingModel says; it asks for no key, and refuses nothing."""
        vectors = []
        for n, text in enumerate(texts):
            if n % _YIELD_AFTER == _YIELD_AFTER - 1:
                await asyncio.sleep(0)
            vectors.append(self.vector(text))
        return vectors

    def vector(self, text: str) -> Vector:
        """The vector of a text; of one without a word, that of the text as a whole."""
        features = Counter(_features(text)) or Counter([text])
        vector = [0.0] * self._dimensions
        for feature, count in features.items():
            number = crc32(feature.encode())
            weight = 1 + math.log(count)
            vector[(number >> 1) % self._dimensions] += weight if number & 1 else -weight
        if not any(vector):  # all have met their opposites
            vector[crc32(text.encode()) % self._dimensions] = 1.0
        return normalised(vector, self.name)


def _features(text: str) -> list[str]:
    words = _WORD.findall(text.lower())
    features = [*words, *(f"{first} {second}" for first, second in pairwise(words))]
    for word in words:
        marked = f"<{word}>"
        features += [f"#{marked[n : n + _LETTERS]}" for n in range(len(marked) - _LETTERS + 1)]
    return features

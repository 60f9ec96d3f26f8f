"""An embedder without a model: for tests, and for whoever tries the stages without one."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from models.embedder import Embedding
from streams.split import TokenIds

S = TypeVar("S")
T = TypeVar("T")


class MemoryEmbedder:
    """`Embedder`: a token is a byte, and a vector a function of the text, so that a wrong one shows."""

    dims = 2
    progressed = 0.0
    waits = None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(text.encode()) for text in texts]

    async def on_tokenizers(self, work: Callable[[S], T], items: Sequence[S]) -> list[T]:
        return [work(item) for item in items]

    async def embed(self, tokens: Sequence[TokenIds]) -> Embedding:
        vectors = np.asarray([vector_of(bytes(ids).decode()) for ids in tokens], dtype=np.float32)
        return Embedding(vectors=vectors.reshape(len(tokens), self.dims), runs=[])


def vector_of(text: str) -> tuple[float, ...]:
    """Tells texts apart; exact in float32."""
    return 1.0, float(sum(text.encode()) % 1000 + 1)

"""An embedder without a model: for tests, and for whoever tries the stages without one."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from models.cosines import cosines
from models.embedder import Embedding
from streams.cost import Used
from streams.errors import ModelChangedError
from streams.split import TokenIds

CANARY, NEEDED = "canary", 0.9999

S = TypeVar("S")
T = TypeVar("T")


def vector_of(text: str) -> tuple[float, ...]:
    """Tells texts apart; exact in float32."""
    return 1.0, float(sum(text.encode()) % 1000 + 1)


class MemoryEmbedder:
    """`Embedder`: a token is a byte, and a vector a function of the text, so that a wrong one shows."""

    dims = 2
    progressed = 0.0
    waits = None

    def __init__(self, right: Callable[[str], tuple[float, ...]] = vector_of) -> None:
        """`right`: the vector of a text, as it has to be."""
        self.right = self.model = right
        """What makes a vector of a text; `model` may become another one at any time."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(text.encode()) for text in texts]

    async def on_tokenizers(self, work: Callable[[S], T], items: Sequence[S]) -> list[T]:
        return [work(item) for item in items]

    async def embed(self, tokens: Sequence[TokenIds]) -> Embedding:
        vectors = np.asarray([self.model(bytes(ids).decode()) for ids in tokens], dtype=np.float32)
        return Embedding(
            vectors=vectors.reshape(len(tokens), self.dims),
            runs=[],
            canary=await self.prove(),
            used=Used(tokens=sum(map(len, tokens))),
        )

    async def prove(self) -> float:
        cosine = float(cosines(np.asarray(self.model(CANARY)), np.asarray(self.right(CANARY))))
        if cosine < NEEDED:
            raise ModelChangedError(
                f"the canary has another vector (cosine {cosine:.3f}): choose another model", cosine
            )
        return cosine

"""The port of whatever makes vectors of texts. Its fake: `models.memory`; the real one: `models.onnx.embedder`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from streams.plan import Vectors
from streams.shapes import Run
from streams.split import TokenIds

S = TypeVar("S")
T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Embedding:
    """`vectors`: float32 (texts, dims), in the order given. `runs`: how the model was run for it.

    `failed`: rows without a vector, because one text alone did not fit into memory, and the reason. `busy_s`: lane
    seconds spent in these runs; `idle_s`: lane seconds spent waiting between them; `seconds`: how long the batch would
    take if no other one used the lanes.
    """

    vectors: Vectors
    runs: list[Run]
    failed: dict[int, str] = field(default_factory=dict)
    busy_s: float = 0.0
    idle_s: float = 0.0
    seconds: float = 0.0


class Embedder(Protocol):
    """Texts to vectors without blocking the event loop. A text's vector does not depend on those beside it."""

    @property
    def dims(self) -> int:
        """Width of a vector."""

    def encode(self, texts: Sequence[str]) -> Sequence[TokenIds]:
        """What the model reads of each text, whole. Blocks: call it in `on_tokenizers`."""

    async def on_tokenizers(self, work: Callable[[S], T], items: Sequence[S]) -> list[T]:
        """`work` of each item, in order, where it may block."""

    async def embed(self, tokens: Sequence[TokenIds]) -> Embedding:
        """Vectors of these texts. Several calls may be under way."""

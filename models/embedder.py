"""The port of whatever makes vectors of texts. Its fake: `models.memory`; the real ones: `models.onnx.embedder` and
`models.api.embedder`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from models.manifest import AnyManifest
from streams.cost import Used
from streams.plan import Vectors
from streams.shapes import Run
from streams.split import Input

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a text has no vector, and will have none: the error's name for dead letters, and the reason for people."""

    error: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Embedding:
    """`vectors`: float32 (texts, dims), in the order given. `runs`: how the model was run for it.

    `failed`: rows without a vector, each by the fault of its own text. `busy_s`: lane seconds spent in these runs;
    `idle_s`: lane seconds spent waiting between them; `seconds`: how long the batch would take if no other one used the
    lanes. `canary`: cosine of a known text, embedded behind all of these or among them, to its vector. `used`: what is
    paid for, canary included; of a service also what it was asked for in between, and what came of no use.
    """

    vectors: Vectors
    runs: list[Run]
    failed: dict[int, Failure] = field(default_factory=dict)
    busy_s: float = 0.0
    idle_s: float = 0.0
    seconds: float = 0.0
    canary: float = 1.0
    used: Used = field(default_factory=Used)


class Embedder(Protocol):
    """Texts to vectors without blocking the event loop. A text's vector does not depend on those beside it.

    Vectors of another model are never returned: each answer is proved by a text whose vector is known, its canary.
    """

    @property
    def dims(self) -> int:
        """Width of a vector."""

    @property
    def progressed(self) -> float:
        """When a run was last finished, or waited for its turn, monotonic seconds; 0 before the first."""

    @property
    def waits(self) -> str | None:
        """What is waited for outside of this process, for people; None while it works, or has nothing to do."""

    def encode(self, texts: Sequence[str]) -> Sequence[Input]:
        """What the model is given of each text, whole. Blocks: call it in `on_tokenizers`."""

    async def on_tokenizers(self, work: Callable[[S], T], items: Sequence[S]) -> list[T]:
        """`work` of each item, in order, where it may block."""

    async def embed(self, inputs: Sequence[Any]) -> Embedding:
        """Vectors of what `encode` gave of some texts. Several calls may be under way.

        Raises ModelChangedError where the canary, embedded after the last of them or in each of their requests, has
        another vector than it should: then none of these vectors is to be used.
        """

    async def prove(self) -> float:
        """Embed all texts whose vectors are known; returns the least cosine.

        Raises ModelChangedError as `embed`, AwayError while whoever makes them does not answer.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How a model is run here: `how` for people, the rest for metrics and `/statusz`. `sha256`: of a graph."""

    how: str
    provider: str
    precision: str
    sha256: str = ""
    refused_widths: Sequence[int] = ()
    details: dict[str, Any] = field(default_factory=dict)


class Model(Embedder, Protocol):
    """An embedder with all that belongs to it, as workers and commands have it. Made by `agents.indexing.embedders`."""

    @property
    def manifest(self) -> AnyManifest:
        """What it is."""

    @property
    def proved(self) -> bool:
        """Whether its vectors were held against the known ones yet."""

    def told(self) -> Told:
        """How it is run, now."""

    async def embed_query(self, text: str) -> list[float]:
        """Vector of one search text, with the query prefix. Raises ValueError when it has too many tokens, and as
        `prove`."""

    def take_share(self, share: float) -> None:
        """From now on this worker has so much of the fleet's work, 0 to 1, and of what is limited for the fleet."""

    def close(self) -> None:
        """Let its threads go; what is under way is given up, or ends by itself."""

"""Texts whose vectors are stored with a model and compared with it at every load, and while it runs: short, long, not
English."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streams.plan import Vectors
from streams.split import TokenIds

CANARY_TOKENS = 16
"""About as long as the one is that is embedded behind each batch: it costs a thousandth of a batch, and is no toy."""
GOLDEN_TEXTS = (
    "Hello, world.",
    "offset",
    "Kafka keeps records in an append-only log; a consumer remembers how far it has read.",
    "How do I run code at the same time in several processes?",
    "def main() -> None:\n    print('indentation, quotes and (brackets)')",
    "Ein Wehr staut das Wasser, ein Druckrohr führt es zur Turbine.",
    "Le penstock est la conduite forcée qui amène l'eau à la turbine.",
    "日本語の文章も、切り捨てずに扱われます。",
    "Эмбеддинги хранятся в Elasticsearch.",
    "🙂🚀 emoji and symbols: ∑ ≥ √ § €",
    "https://example.org/a/very/long/path?with=query&and=more#fragment",
    "1234567890 3.14159 0xDEADBEEF 2026-11-21T12:00:00Z",
    "a",
    "The quick brown fox jumps over the lazy dog. " * 12,
    "Exactly-once is a property of the state that a reader can see, not of the messages that were sent. " * 8,
    "SELECT id, title FROM documents WHERE updated_at > now() - interval '1 day' ORDER BY id;",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """`texts`: their tokens, as they are stored; `vectors`: float32 (texts, dims)."""

    texts: Sequence[TokenIds]
    vectors: Vectors

    @property
    def canary(self) -> TokenIds:
        """The one that is embedded behind each batch."""
        return min(self.texts, key=lambda ids: abs(len(ids) - CANARY_TOKENS))


def read_golden(path: Path, encode: Callable[[Sequence[str]], Sequence[TokenIds]]) -> Golden:
    """As stored beside a model, whose files were verified."""
    stored = json.loads(path.read_text())
    return Golden(texts=encode(stored["texts"]), vectors=np.asarray(stored["vectors"], dtype=np.float32))

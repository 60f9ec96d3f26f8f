"""One model tried on documents and questions: tokens, lane seconds, money, and each question's cosine to each chunk.

Of vectors nothing is kept but that: 4 bytes for a chunk and a question.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agents.terminal import in_short
from models.embedder import Model
from streams.cost import Price, units
from streams.errors import ConfigError
from streams.judgements import Queries
from streams.plan import Vectors
from streams.record import Document, Rejected
from streams.route_plan import Measured, Rescoring
from streams.split import Input, SplitRules, chunk_document

CHUNKS_AT_ONCE = 256
"""That are embedded together."""
KEY_CHARS = 100
NOTHING = -1.0
"""Cosine of what has no vector."""
MOST_CHARS = 2**40
"""More than a document has."""


class Trial:
    """Of one model. `name`: of the model. `refused`: places of documents that would be dead letters; nothing finds
    them."""

    def __init__(self, model: Model, price: Price, rules: SplitRules, queries: Queries, documents: int) -> None:
        """`documents`: how many there will be."""
        self.name = model.manifest.name
        self.refused = set[int]()
        self._model = model
        self._price = price
        self._rules = rules
        self._queries = queries
        self._questions: Vectors = np.empty((0, model.dims), dtype=np.float32)
        self._tokens, self._seconds, self._money = np.zeros(documents), np.zeros(documents), np.zeros(documents)
        self._owners, self._starts = list[int](), list[int]()
        self._scores = list[Vectors]()

    async def ask(self, asked: Callable[[int], None]) -> None:
        """Embed the questions, first of all. `asked` is told how many there are. Raises ConfigError naming one that is
        too long."""
        vectors = list[list[float]]()
        for key, text in self._queries.items():
            try:
                vectors.append(await self._model.embed_query(text))
            except ValueError as exc:
                raise ConfigError(
                    f"question {in_short(key, KEY_CHARS)} is too long for {self.name}: {exc}; shorten it"
                ) from exc
            asked(len(vectors))
        self._questions = _unit(np.asarray(vectors, dtype=np.float32))

    async def embed(self, documents: Mapping[int, Document]) -> None:
        """Some documents, by their places."""
        made = await self._model.on_tokenizers(
            lambda document: chunk_document(document, self._rules, self._model.encode), list(documents.values())
        )
        owners, inputs = list[int](), list[Input]()
        for place, chunks in zip(documents, made, strict=True):
            if isinstance(chunks, Rejected):
                self.refused.add(place)
            else:
                owners += [place] * len(chunks)
                inputs += [chunk.ids for chunk in chunks]
                self._starts += [number if chunk.start is None else chunk.start for number, chunk in enumerate(chunks)]
        self._owners += owners
        for start in range(0, len(inputs), CHUNKS_AT_ONCE):
            await self._add(owners[start : start + CHUNKS_AT_ONCE], inputs[start : start + CHUNKS_AT_ONCE])

    async def _add(self, owners: Sequence[int], inputs: Sequence[Input]) -> None:
        found = await self._model.embed(inputs)
        tokens = np.array([len(one) for one in inputs], dtype=np.float64)
        np.add.at(self._tokens, owners, tokens)
        each = max(1.0, tokens.sum())
        np.add.at(self._seconds, owners, tokens * (found.busy_s / each))
        np.add.at(self._money, owners, tokens * (units(self._price.cost(found.used)) / each))
        scores = self._questions @ _unit(found.vectors).T
        scores[:, list(found.failed)] = NOTHING
        self._scores.append(scores)

    @property
    def measured(self) -> Measured:
        """What was found out."""
        owners, chunks = self._found()
        scores = np.full((len(self._queries), len(self._tokens)), NOTHING, dtype=np.float32)
        np.maximum.at(scores.T, owners, chunks.T)
        return Measured(tokens=self._tokens, seconds=self._seconds, money=self._money, scores=scores)

    def rescored_by(self, robust: "Trial", most: int) -> Rescoring:
        """What a search would find that has the robust model rank the chunks of this one again.

        Where that one splits a chunk further its beginning speaks for it, as in a search.
        """
        owners, scores = self._found()
        theirs, their_scores = robust._found()
        places = np.searchsorted(_keys(theirs, robust._starts), _keys(owners, self._starts), side="right") - 1
        same = (places >= 0) & (theirs[places] == owners) if len(theirs) else np.zeros(len(owners), dtype=bool)
        again = np.full_like(scores, NOTHING)
        again[:, same] = their_scores[:, places[same]]
        return Rescoring(most=most, owners=owners, fast=scores, robust=again)

    @property
    def chunk(self) -> tuple[float, float, float]:
        """Tokens, lane seconds and money of one, on average."""
        count = max(1, len(self._owners))
        tokens, seconds, money = (float(part.sum()) / count for part in (self._tokens, self._seconds, self._money))
        return tokens, seconds, money

    def _found(self) -> tuple[NDArray[np.int64], Vectors]:
        """The document of each chunk, and its scores: (questions, chunks)."""
        if len(self._scores) != 1:
            empty = np.empty((len(self._queries), 0), dtype=np.float32)
            self._scores = [np.concatenate([empty, *self._scores], axis=1)]
        return np.array(self._owners, dtype=np.int64), self._scores[0]


def _keys(owners: NDArray[np.int64], starts: Sequence[int]) -> NDArray[np.int64]:
    """Places of chunks, of all documents, ascending as they were embedded."""
    return np.asarray(owners * MOST_CHARS + np.array(starts, dtype=np.int64), dtype=np.int64)


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)

"""Chunks of other models' fields, scored by the default model: its scores compare, so nothing is fused by ranks.

What a faster model finds first is read again by the better one, a few texts for each search.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.cosines import cosines
from models.embedder import Model
from streams.errors import AwayError
from streams.split import EncodeError, Input, SplitRules, split_text

Hit = dict[str, Any]
"""`score`, `id`, `text`, `metadata`, `penstock`."""

PATIENCE_S = 300
"""For one search's texts."""


class Rescorer:
    """Of one search. `most`: chunks that are embedded, at most: each once, however often it is asked."""

    def __init__(self, model: Model, rules: SplitRules, vector: Sequence[float], most: int) -> None:
        """`model`: the default one; `rules`: its own. `vector`: the question's, by this model."""
        self.most = most
        self._model = model
        self._rules = rules
        self._vector = np.asarray(vector, dtype=np.float32)
        self._scores = dict[str, float]()

    async def rescored(self, hits: Sequence[Hit]) -> list[Hit]:
        """The first `most` of them with the score that Elasticsearch would give this model's vectors, 0 to 1; those
        that it has no vector of with 0.

        Of a text that is longer than the model takes the beginning counts. Raises AwayError, and as `Model.embed`.
        """
        chosen = hits[: self.most]
        new = [hit for hit in chosen if hit["id"] not in self._scores][: self.most - len(self._scores)]
        scores = await self._scored([hit["text"] for hit in new])
        self._scores |= {hit["id"]: score for hit, score in zip(new, scores, strict=True)}
        return [{**hit, "score": self._scores[hit["id"]]} for hit in chosen if hit["id"] in self._scores]

    async def _scored(self, texts: Sequence[str]) -> list[float]:
        inputs = await self._model.on_tokenizers(self._beginning, texts)
        places = [place for place, one in enumerate(inputs) if one is not None]
        scores = [0.0] * len(texts)
        if not places:
            return scores
        try:
            async with asyncio.timeout(PATIENCE_S):
                made = await self._model.embed([inputs[place] for place in places])
        except TimeoutError as exc:
            told = f"{self._model.manifest.name} has not embedded {len(places)} texts in {PATIENCE_S} s"
            raise AwayError(f"{told}: try again, or with a smaller --rescore") from exc
        for row, (place, cosine) in enumerate(zip(places, cosines(made.vectors, self._vector), strict=True)):
            if row not in made.failed:
                scores[place] = (1 + float(cosine)) / 2
        return scores

    def _beginning(self, text: str) -> Input | None:
        """What the model is given of a text; None of one that it cannot take."""
        try:
            return next((chunk.ids for chunk in split_text(text, self._rules, self._model.encode)), None)
        except EncodeError:
            return None

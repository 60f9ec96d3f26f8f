"""What it costs to send some documents to a faster model, and what that does to ranking, on documents of the topic.

    1  documents of the topic, evenly over partitions and offsets
    2  questions: given, or made of these documents
    3  each document split and embedded by both models, and each question; of vectors only cosines are kept
    4  every threshold of length: cost and ranking (`streams.route_plan`)

Changes nothing. A document takes the memory of its own text, and each of its chunks some 20 bytes for each question.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from agents.configured import split_rules
from agents.indexing.embedders import load_model
from agents.kafka.reader import log_reader
from agents.operations.sampling import spread
from agents.operations.trial import Trial
from agents.progress import Report
from agents.schemas.form import form_of
from agents.settings import Settings, with_model
from agents.terminal import in_short
from models.embedder import Model
from models.manifest import SERVICE
from streams.cost import FREE, Price
from streams.errors import ConfigError, PenstockError
from streams.judgements import Judgements, Queries
from streams.record import Document, Rejected
from streams.route_plan import Gains, Point, Sample, agreed, cuts, marked, points
from streams.routes import texts_of

MOST_CHARS = 64 * 1024**2
"""Of all texts, at most: where they are longer, fewer documents are read."""
MOST_QUESTIONS = 500
"""That are made of documents."""
LEAST = 20
"""Documents: of fewer nothing can be said of a ranking's first 10."""
QUESTION_CHARS = 80
AT_ONCE = 32
"""Documents that are split together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """`documents`: how many; `model`: the fast one. `queries`: None, they are made of the documents; `judged`: None,
    what the robust model finds is taken for right. `rescore`: chunks that a search rescores; 0: that is not tried."""

    documents: int
    model: str
    queries: Queries | None = None
    judged: Judgements | None = None
    rescore: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """`documents`: that were embedded; `left_out`: records that are deletions or unreadable; `refused`: documents that
    would be dead letters with one of the models. `questions`: that were asked; `unanswered`: those that were not, as no
    document of the sample is relevant. `rescore`: chunks that a search rescores, and what that takes each time, at
    most: `rescore_tokens`, `rescore_s`, lane seconds, and `rescore_money`. `points`: cheapest first."""

    topic: str
    robust: str
    fast: str
    documents: int
    left_out: int
    refused: int
    questions: int
    unanswered: int
    judged: bool
    priced: bool
    rescore: int
    rescore_tokens: int
    rescore_s: float
    rescore_money: float
    points: list[Point]


async def plan_routes(settings: Settings, wanted: Wanted, report: Report) -> Planned:
    """Raises ConfigError where what is asked for cannot be measured, PenstockError when Kafka, a model or the topic is
    missing."""
    others, names = with_model(settings, wanted.model), (settings.model.name, wanted.model)
    if names[0] == names[1]:
        raise ConfigError(f"--model {names[1]} is model.name itself: choose another one, from `penstock model list`")
    prices = {name: price for name, price in settings.cost.prices.items() if name in names and price != FREE}
    with closing(load_model(settings)) as robust, closing(load_model(others)) as fast:
        _require_prices((robust, fast), prices)
        documents, left_out = await _read(settings, wanted.documents, report)
        queries, gains = _questions(documents, wanted)
        trials = [
            Trial(model, prices.get(name, FREE), split_rules(settings, model.manifest), queries, len(documents))
            for model, name in zip((robust, fast), names, strict=True)
        ]
        for trial in trials:
            await trial.ask(lambda asked, name=trial.name: report(f"questions, {name}", asked, len(queries)))  # type: ignore[misc]
        for start in range(0, len(documents), AT_ONCE):
            some = {start + place: document for place, document in enumerate(documents[start : start + AT_ONCE])}
            for trial in trials:
                await trial.embed(some)
            report("documents, both models", start + len(some), len(documents))
    measured = [trial.measured for trial in trials]
    chars = np.array([chars_of(document) for document in documents], dtype=np.int64)
    again = trials[1].rescored_by(trials[0], wanted.rescore) if wanted.rescore else None
    sample = Sample(chars=chars, robust=measured[0], fast=measured[1], rescoring=again)
    tokens, seconds, money = (wanted.rescore * part for part in trials[0].chunk)
    return Planned(
        topic=settings.source.topic,
        robust=names[0],
        fast=names[1],
        documents=len(documents),
        left_out=left_out,
        refused=len(set.union(*(trial.refused for trial in trials))),
        questions=len(queries),
        unanswered=len(wanted.queries or queries) - len(queries),
        judged=wanted.judged is not None,
        priced=bool(prices),
        rescore=wanted.rescore,
        rescore_tokens=round(tokens),
        rescore_s=seconds,
        rescore_money=money,
        points=await _points(sample, gains or agreed(sample.robust.scores), report),
    )


async def _points(sample: Sample, gains: Sequence[Gains], report: Report) -> list[Point]:
    """Every threshold, cheapest first."""
    made, count = list[Point](), len(cuts(sample.chars))
    for point in points(sample, gains):
        made.append(point)
        report("thresholds", len(made), count)
        await asyncio.sleep(0)  # a signal ends it
    return marked(made)


def _questions(documents: Sequence[Document], wanted: Wanted) -> tuple[Queries, list[Gains]]:
    """With what answers each, where that is known."""
    queries = wanted.queries or questions_of(documents)
    if wanted.judged is None:
        return queries, []
    return _judged(queries, wanted.judged, {document.id: place for place, document in enumerate(documents)})


def questions_of(documents: Sequence[Document]) -> Queries:
    """Of some documents, evenly: their titles, or the beginning of what has none. Each question once."""
    count = min(MOST_QUESTIONS, len(documents))
    chosen = [documents[(2 * number + 1) * len(documents) // (2 * count)] for number in range(count)]
    asked = {_question(document): document.id for document in chosen}
    return {key: question for question, key in asked.items()}


def _question(document: Document) -> str:
    text = document.title or document.text or " ".join(chunk.text for chunk in document.chunks or ())
    line = text.strip().partition("\n")[0].strip()
    return in_short(line or document.id, QUESTION_CHARS)


def chars_of(document: Document) -> int:
    """Of its text, as a route counts them."""
    return sum(len(text.strip()) for text in texts_of(document))


def _require_prices(models: Sequence[Model], prices: Mapping[str, Price]) -> None:
    """Both have one, or neither, and a service always: its seconds are not of this machine."""
    names = [model.manifest.name for model in models]
    services = [model.manifest.name for model in models if model.manifest.precision == SERVICE]
    if missing := [name for name in (names if prices else services) if name not in prices]:
        kind = "million_tokens = 0.02" if missing[0] in services else "core_hour = 0.04"
        why = (
            "what a service takes is money"
            if services
            else "the money of the one does not compare with the other's time"
        )
        raise ConfigError(f"{missing[0]} has no price, and {why}: set [cost.models.{missing[0]}], such as {kind}")


async def _read(settings: Settings, count: int, report: Report) -> tuple[list[Document], int]:
    """Documents, the newest of each id, and how many records are none."""
    form, found, left_out, size = form_of(settings), dict[str, Document](), 0, 0
    topic = settings.source.topic
    async with log_reader(settings) as reader:
        passed = 0
        async for record in spread(reader, topic, count):
            await form.ready([record])
            document = form.decode(record)
            if isinstance(document, Rejected) or not chars_of(document):
                left_out += 1
            else:
                found[document.id] = document
                size += chars_of(document)
            passed += 1
            report("reading documents", passed, count)
            if size > MOST_CHARS:
                break
        report("reading documents", passed, passed)
    if len(found) < LEAST:
        raise PenstockError(
            f"{topic} gave {len(found)} documents ({left_out} records are deletions or dead letters), and {LEAST} are "
            "needed to say anything: publish more (`penstock ingest`), or set a larger --sample"
        )
    return list(found.values()), left_out


def _judged(queries: Queries, judged: Judgements, places: Mapping[str, int]) -> tuple[Queries, list[Gains]]:
    """Questions that a document of the sample answers, with those by their place."""
    gains = {
        key: {places[document]: gain for document, gain in judged.get(key, {}).items() if document in places}
        for key in queries
    }
    answered = {key: text for key, text in queries.items() if gains[key]}
    if not answered:
        if not set(queries) & set(judged):
            raise ConfigError("no question of --queries is judged in --qrels: their ids differ")
        raise ConfigError(
            "no document of the sample is relevant in --qrels: are its documents the keys of the topic's records? "
            "Else set a larger --sample"
        )
    return answered, [gains[key] for key in answered]

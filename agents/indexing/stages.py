"""What is done with records at each stage, wherever they come from: the topic, or the dead letters."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from typing import Protocol, TypeVar

from agents.clock import utc_now
from agents.fail_points import FailPoints
from agents.indexing.budget import Budget
from agents.indexing.meter import Meter
from agents.metrics import Metrics
from models.embedder import Embedder, Embedding
from streams.batch_size import BatchSize
from streams.drift import LOOKED_AT, Moments
from streams.epochs import Epochs
from streams.errors import ModelChangedError
from streams.flags import Flag
from streams.form import OWN_FORM, Form
from streams.plan import Space
from streams.ports import Chunks, DeadLetters, Entries
from streams.protocol import Target, Work, begin, begun, fill, finish, reuse, write
from streams.quality import all_judged, refusal
from streams.record import TOO_LARGE, Record, Rejected
from streams.registry import is_settled
from streams.routes import Route, Routing
from streams.size import room
from streams.snapshot import epoch_of, is_row
from streams.split import Input, SplitRules, chunk_document

LARGEST_SHARE = 1 / 4
"""Of the budget, that one record may take."""
TOGETHER = 64
"""Records that are prepared as one."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How texts become vectors of one space: split by these rules, embedded by its model. `moments`: of those made."""

    space: Space
    rules: SplitRules
    embedder: Embedder
    batch: BatchSize = field(default_factory=BatchSize)
    moments: Moments = field(default_factory=Moments)


class Known(Protocol):
    """Vectors that were made before."""

    async def fill(self, works: Sequence[Work], progressed: Callable[[], None]) -> None:
        """Those of equal texts by the same model, into what is not known yet. `progressed`: called now and then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Former:
    """An index before this one, whose vectors are taken where model and text are the same. `fields`: those there of
    vectors that a model here makes, too, by the field here. Reads only."""

    chunks: Chunks
    registry: Entries
    fields: Mapping[str, str]

    async def fill(self, works: Sequence[Work], progressed: Callable[[], None]) -> None:
        """Vectors of documents that were indexed there, into what is not known yet."""
        for field_here, field_there in self.fields.items():
            wanted = [
                work
                for work in works
                if work.document and work.space.names.vector == field_here and len(work.known) < len(work.chunks)
            ]
            stored = await self.registry.read([work.document.id for work in wanted if work.document])
            old = [
                (work, stored[work.document.id].entry.n)
                for work in wanted
                if work.document and work.document.id in stored
            ]
            await fill(old, self.chunks, field_there, progressed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the stages work with. `ways`: the default one first; `routes`: which documents take another one; `refuge`:
    the route that they take while the budget of a day is used up. `epochs`: of the records that are in the topic now;
    `reject`: flags of texts that are not indexed; `former`: whose vectors are taken where model and text are the same;
    `meter`: where costs are counted."""

    ways: Sequence[Way]
    routes: Sequence[Route] = ()
    refuge: str | None = None
    epochs: Epochs
    target: Target
    registry: Entries
    chunks: Chunks
    dead_letters: DeadLetters
    budget: Budget
    metrics: Metrics
    fail_points: FailPoints
    form: Form = OWN_FORM
    reject: Collection[Flag] = ()
    former: Known | None = None
    meter: Meter | None = None


class Stages:
    """Prepare, begin, embed, write: in this order for every work, each for a batch at once."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._ways = {way.space.names.vector: way for way in parts.ways}
        self._routing = Routing(routes=parts.routes, spaces=[way.space for way in parts.ways], refuge=parts.refuge)
        self.progressed = time.monotonic()
        """When a part of the work at any stage was last finished, monotonic seconds: a document may take minutes."""
        self.changed: ModelChangedError | None = None
        """Since the model was found to give other vectors nothing is written."""

    async def ready(self, records: Sequence[Record]) -> None:
        """Before these are prepared. May wait for long, where schemas come from a registry that is away."""
        await self._parts.form.ready(records)

    def work_of(
        self,
        record: Record,
        attempt: int = 1,
        *,
        repair: bool = False,
        epoch: int | None = None,
        begun: str | None = None,
    ) -> Work:
        """What is to be done with a record; it is not prepared yet.

        `epoch`: of one that is in the topic no more, or may not be. `begun`: as `Routing.place` takes it.
        """
        if epoch is None:
            epoch = epoch_of(record, self._parts.epochs)
        return Work(record, epoch, self._parts.ways[0].space, attempt=attempt, repair=repair, begun=begun)

    async def unsettled(self, works: Sequence[Work]) -> list[Work]:
        """Without those whose record, or a newer one of the document, the index has: they are decoded, for a broken one
        has its dead letter all the same, and one look at the registry is all that they cost."""

        def hashes(work: Work) -> Collection[str]:
            if work.document is None or not is_row(work.record):
                return ()
            placed = self._routing.place(work.document)
            return {placed.document.content_hash, *placed.elsewhere}

        await self._on_threads(self._decode, works)
        parts, ids = self._parts, {work.document.id for work in works if work.document}
        stored = await parts.registry.read(ids)
        return [
            work
            for work in works
            if work.document is None
            or not is_settled(
                stored.get(work.document.id),
                partition=work.record.partition,
                version=work.version,
                chunk_index_uuid=parts.target.chunk_index_uuid,
                hashes=hashes(work),
            )
        ]

    async def prepare(self, works: Sequence[Work], *, spent: bool = False) -> None:
        """Decode, split and judge, on the tokenizers' threads. Never raises for bad input.

        Many at once take two thirds of the time. `spent`: as `Routing.place` takes it.
        """

        def group(works: Sequence[Work]) -> None:
            for work in works:
                self._split(work, spent=spent)
            self._judge(works)

        await self._on_threads(group, [works[start : start + TOGETHER] for start in range(0, len(works), TOGETHER)])

    async def _on_threads(self, call: Callable[[T], None], items: Sequence[T]) -> None:
        await self._parts.ways[0].embedder.on_tokenizers(call, items)

    def _decode(self, work: Work) -> None:
        parts, record = self._parts, work.record
        if work.rejected:
            return  # by whoever read it
        limit = int(parts.budget.limit * LARGEST_SHARE)
        if record.size_bytes > limit:
            work.reject(
                "decode",
                TOO_LARGE,
                f"{record.size_bytes} bytes are more than {limit}, a quarter of batch.max_inflight_bytes: "
                "raise that, or divide the document",
            )
            return
        decoded = parts.form.decode(record)
        if isinstance(decoded, Rejected):
            work.rejected = decoded
        else:
            work.document = decoded

    def _split(self, work: Work, *, spent: bool) -> None:
        """The document has its text yet."""
        if work.document is None:
            self._decode(work)
        if work.document is None:
            return
        placed = self._routing.place(work.document, spent=spent, begun=work.begun)
        document, work.space, work.route, work.elsewhere = placed.document, placed.space, placed.route, placed.elsewhere
        way = self.way_of(work)
        space = room(document, way.space.dims, self._parts.budget.limit)
        chunks = chunk_document(document, way.rules, partial(self._encode, way.embedder), space)
        if isinstance(chunks, Rejected):
            work.rejected, work.document = chunks, None
        else:
            work.document, work.chunks = document, chunks

    def _judge(self, works: Sequence[Work]) -> None:
        """Flags, language and signature of the documents; those that are refused for them have none afterwards."""
        found = [(work, work.document) for work in works if work.document]
        verdicts = all_judged([(document, work.chunks) for work, document in found])
        for (work, document), verdict in zip(found, verdicts, strict=True):
            work.rejected = refusal(document, work.chunks, verdict, self._parts.reject)
            if work.rejected:
                work.document, work.chunks = None, []
            else:
                work.document, work.verdict = replace(document, text=None) if document.text else document, verdict

    def way_of(self, work: Work) -> Way:
        """By which its texts become vectors; the default one where nobody can tell."""
        return self._ways[work.space.names.vector]

    def _encode(self, embedder: Embedder, texts: Sequence[str]) -> Sequence[Input]:
        ids = embedder.encode(texts)
        self._progress()
        return ids

    def _progress(self) -> None:
        self.progressed = time.monotonic()

    async def through(self, works: Sequence[Work]) -> None:
        """A prepared batch, all the way; for who has nothing to do in between."""
        await self.begin(works)
        await self.embed(works)
        await self.write(works)

    async def begin(self, works: Sequence[Work]) -> None:
        """Intents into the registry; by another model than the documents' own where the budget of the day is used up,
        and by the one that a record was begun for where it was begun before."""
        moved = await self._within_budget(works)
        await begin(works, self._parts.target, self._parts.registry, self._parts.chunks)
        while stay := [work for work in works if work.begun]:
            await self._prepare_anew(stay)
            await begin(stay, self._parts.target, self._parts.registry, self._parts.chunks)
        rerouted = sum(work.intent is not None and work.route == self._parts.refuge for work in moved)
        self._parts.metrics.budget_rerouted.inc(rerouted)
        self._parts.fail_points.passing("after_intent")

    async def as_stored(self, works: Sequence[Work]) -> None:
        """Prepare those anew whose document is in the index by the route that a budget chose: for the model there."""
        found = [(work, work.document.id) for work in works if work.document and work.elsewhere]
        stored = await self._parts.registry.read({doc for _, doc in found}) if found else {}
        for work, doc in found:
            if doc in stored and (told := stored[doc].entry.content_hash) in work.elsewhere:
                work.begun = told
        await self._prepare_anew([work for work in works if work.begun])

    async def _within_budget(self, works: Sequence[Work]) -> Sequence[Work]:
        """Those that were prepared for another model now."""
        meter, refuge = self._parts.meter, self._routing.refuge
        if meter is None or refuge is None:
            return []
        space = self._routing.space_of(refuge)
        dear = [work for work in works if work.chunks and work.elsewhere and work.space is not space]
        tokens = Counter[str]()
        for work in dear:
            tokens[work.space.model] += sum(len(chunk.ids) for chunk in work.chunks)
        if not dear or await meter.affords(tokens):
            return []
        await self._prepare_anew(dear, spent=True)
        return dear

    async def _prepare_anew(self, works: Sequence[Work], *, spent: bool = False) -> None:
        """For another model: whatever is told by their texts."""

        anew = [
            self.work_of(work.record, work.attempt, repair=work.repair, epoch=work.epoch, begun=work.begun)
            for work in works
        ]
        await self.prepare(anew, spent=spent)
        for work, made in zip(works, anew, strict=True):
            work.space, work.route, work.elsewhere, work.begun = made.space, made.route, made.elsewhere, None
            work.document, work.chunks, work.verdict = made.document, made.chunks, made.verdict
            work.rejected = work.rejected or made.rejected

    async def embed(self, works: Sequence[Work]) -> bool:
        """Vectors of all begun documents: those of unchanged chunks are read back, the others computed.

        Returns False where it was given up while it waited for a budget: nothing of it is written then. Raises
        ModelChangedError where the model gives other vectors than it should.
        """
        await reuse(works, self._parts.chunks, self._progress)
        if self._parts.former:
            await self._parts.former.fill(begun(works), self._progress)
        for way in self._parts.ways:
            missing = (
                (work, number)
                for work in begun(works)
                if work.space is way.space
                for number in range(len(work.chunks))
                if number not in work.known
            )
            while part := list(islice(missing, way.batch.chunks)):
                if not await self._embed_slice(way, part):
                    return False
        if self._parts.meter:
            self._parts.meter.embedded(works)
        self._count_skipped(works)
        return True

    async def prove(self) -> None:
        """Have the models prove themselves once more, whether there is work or not.

        Raises ModelChangedError where one gives other vectors than it should.
        """
        for way in self._parts.ways:
            with self._proved(way):
                self._show_cosine(way, await way.embedder.prove())

    async def write(self, works: Sequence[Work]) -> None:
        """Make a batch durable.

        1. chunks and stubs
        2. dead letters, awaited
        3. the registry's entries: done, or rejected
        A crash between any two of them is healed by replay. Raises ModelChangedError where the model proved wrong since
        the batch was embedded.
        """
        parts = self._parts
        if self.changed:
            raise self.changed
        # 1
        await write(works, parts.chunks, utc_now(), self._progress)
        # 2
        for work in works:
            if work.rejected:
                await parts.dead_letters.send(work.rejected, attempt=work.attempt, epoch=work.epoch)
                work.outcome = "dead_lettered"
        # 3
        await finish(works, parts.registry)
        self._count_flags(works)
        parts.fail_points.passing("after_done")

    async def _embed_slice(self, way: Way, rows: list[tuple[Work, int]]) -> bool:
        """As many chunks as a batch has: what one document needs is bounded, and progress is seen within seconds."""
        metrics, meter, model = self._parts.metrics, self._parts.meter, way.space.model
        expected = 0
        if meter:
            room = await meter.room(model, sum(len(work.chunks[number].ids) for work, number in rows))
            if room is None:
                return False
            expected = room
        with metrics.embed_seconds.time(), self._proved(way):
            made = await way.embedder.embed([work.chunks[number].ids for work, number in rows])
        if meter:
            meter.charge(model, rows, made.used, expected)
        self._show_cosine(way, made.canary)
        way.batch.observe(len(rows), made.seconds)
        _remember(way, rows[:LOOKED_AT], made)
        for place, (work, number) in enumerate(rows):
            if work.vectors is not None:
                work.vectors[number] = made.vectors[place]
            if failure := made.failed.get(place):
                work.reject("embed", failure.error, f"chunk {number} {failure.reason}")
        metrics.embedded.inc(len(rows))
        metrics.batch_size.observe(len(rows))
        metrics.session_seconds.labels("busy").inc(made.busy_s)
        metrics.session_seconds.labels("idle").inc(made.idle_s)
        for run in made.runs:
            metrics.tokens.inc(run.tokens)
            metrics.padding_tokens.inc(run.padding)
            metrics.batch_tokens.observe(run.tokens + run.padding)
        self._progress()
        return True

    def _count_flags(self, works: Sequence[Work]) -> None:
        for work in begun(works):
            if not work.rejected:
                for flag, count in Counter(chain.from_iterable(work.verdict.flags)).items():
                    self._parts.metrics.quality_flags.labels(flag).inc(count)

    @contextmanager
    def _proved(self, way: Way) -> Iterator[None]:
        """What a model gives inside; nothing once it was wrong, though it should be right again."""
        if self.changed:
            raise self.changed
        try:
            yield
        except ModelChangedError as exc:
            self.changed = exc
            logger.error("nothing is written any more", extra={"reason": str(exc)})
            self._show_cosine(way, exc.cosine)
            self._parts.metrics.model_changed.labels(way.space.model).set(1)
            raise

    def _show_cosine(self, way: Way, cosine: float) -> None:
        self._parts.metrics.canary_cosine.labels(way.space.model).set(cosine)

    def _count_skipped(self, works: Sequence[Work]) -> None:
        for work in works:
            if work.outcome in ("unchanged", "superseded"):
                self._parts.metrics.skipped.labels(work.outcome).inc(len(work.chunks))
            elif work.known:
                self._parts.metrics.skipped.labels("reused").inc(len(work.known))


def _remember(way: Way, rows: Sequence[tuple[Work, int]], made: Embedding) -> None:
    """How these vectors are spread, of documents that are told apart by any number."""
    places = [(hash(work.record.key), number) for work, number in rows]
    way.moments.add(made.vectors[: len(rows)], places)

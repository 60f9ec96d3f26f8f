"""What is done with records at each stage, wherever they come from: the topic, or the dead letters."""

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from agents.clock import utc_now
from agents.fail_points import FailPoints
from agents.indexing.budget import Budget
from agents.metrics import Metrics
from models.embedder import Embedder, Embedding
from streams.batch_size import BatchSize
from streams.drift import LOOKED_AT, Moments
from streams.epochs import Epochs
from streams.errors import ModelChangedError
from streams.flags import Flag
from streams.form import OWN_FORM, Form
from streams.ports import Chunks, DeadLetters, Entries
from streams.protocol import Target, Work, begin, begun, finish, reuse, write
from streams.quality import judged, refusal
from streams.record import TOO_LARGE, Record, Rejected
from streams.size import room
from streams.split import Input, SplitRules, chunk_document

LARGEST_SHARE = 1 / 4
"""Of the budget, that one record may take."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the stages work with. `epochs`: of the records that are in the topic now; `moments`: of the vectors made;
    `reject`: flags of texts that are not indexed."""

    embedder: Embedder
    epochs: Epochs
    rules: SplitRules
    target: Target
    registry: Entries
    chunks: Chunks
    dead_letters: DeadLetters
    budget: Budget
    metrics: Metrics
    fail_points: FailPoints
    batch: BatchSize = field(default_factory=BatchSize)
    moments: Moments = field(default_factory=Moments)
    form: Form = OWN_FORM
    reject: Collection[Flag] = ()


class Stages:
    """Prepare, begin, embed, write: in this order for every work, each for a batch at once."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.progressed = time.monotonic()
        """When a part of the work at any stage was last finished, monotonic seconds: a document may take minutes."""
        self.changed: ModelChangedError | None = None
        """Since the model was found to give other vectors nothing is written."""

    async def ready(self, records: Sequence[Record]) -> None:
        """Before these are prepared. May wait for long, where schemas come from a registry that is away."""
        await self._parts.form.ready(records)

    def prepare(self, record: Record, attempt: int = 1, *, repair: bool = False, epoch: int | None = None) -> Work:
        """Decode, split and judge. Blocks: call it on the tokenizers' threads. Never raises for bad input.

        `epoch`: of a record that is in the topic no more, or may not be.
        """
        if epoch is None:
            epoch = self._parts.epochs.of(record.partition, record.offset)
        work = Work(record, epoch, attempt=attempt, repair=repair)
        limit = int(self._parts.budget.limit * LARGEST_SHARE)
        if record.size_bytes > limit:
            work.reject(
                "decode",
                TOO_LARGE,
                f"{record.size_bytes} bytes are more than {limit}, a quarter of batch.max_inflight_bytes: "
                "raise that, or divide the document",
            )
            return work
        decoded = self._parts.form.decode(record)
        if isinstance(decoded, Rejected):
            work.rejected = decoded
            return work
        space = room(decoded, self._parts.embedder.dims, self._parts.budget.limit)
        chunks = chunk_document(decoded, self._parts.rules, self._encode, space)
        if isinstance(chunks, Rejected):
            work.rejected = chunks
            return work
        verdict = judged(decoded, chunks)
        work.rejected = refusal(decoded, chunks, verdict, self._parts.reject)
        if work.rejected is None:
            work.document = replace(decoded, text=None) if decoded.text else decoded
            work.chunks, work.verdict = chunks, verdict
        return work

    def _encode(self, texts: Sequence[str]) -> Sequence[Input]:
        ids = self._parts.embedder.encode(texts)
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
        """Intents into the registry."""
        await begin(works, self._parts.target, self._parts.registry, self._parts.chunks)
        self._parts.fail_points.passing("after_intent")

    async def embed(self, works: Sequence[Work]) -> None:
        """Vectors of all begun documents: those of unchanged chunks are read back, the others computed.

        Raises ModelChangedError where the model gives other vectors than it should.
        """
        await reuse(works, self._parts.chunks, self._parts.embedder.dims, self._progress)
        missing = (
            (work, number) for work in begun(works) for number in range(len(work.chunks)) if number not in work.known
        )
        while part := list(islice(missing, self._parts.batch.chunks)):
            await self._embed_slice(part)
        self._count_skipped(works)

    async def prove(self) -> None:
        """Have the model prove itself once more, whether there is work or not.

        Raises ModelChangedError where it gives other vectors than it should.
        """
        with self._proved():
            self._show_cosine(await self._parts.embedder.prove())

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
        await write(works, parts.target, parts.chunks, utc_now(), self._progress)
        # 2
        for work in works:
            if work.rejected:
                await parts.dead_letters.send(work.rejected, attempt=work.attempt, epoch=work.epoch)
                work.outcome = "dead_lettered"
        # 3
        await finish(works, parts.registry)
        self._count_flags(works)
        parts.fail_points.passing("after_done")

    async def _embed_slice(self, rows: list[tuple[Work, int]]) -> None:
        """As many chunks as a batch has: what one document needs is bounded, and progress is seen within seconds."""
        metrics = self._parts.metrics
        with metrics.embed_seconds.time(), self._proved():
            made = await self._parts.embedder.embed([work.chunks[number].ids for work, number in rows])
        self._show_cosine(made.canary)
        self._parts.batch.observe(len(rows), made.seconds)
        self._remember(rows[:LOOKED_AT], made)
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

    def _count_flags(self, works: Sequence[Work]) -> None:
        for work in begun(works):
            if not work.rejected:
                for flag, count in Counter(chain.from_iterable(work.verdict.flags)).items():
                    self._parts.metrics.quality_flags.labels(flag).inc(count)

    @contextmanager
    def _proved(self) -> Iterator[None]:
        """What the model gives inside; nothing once it was wrong, though it should be right again."""
        if self.changed:
            raise self.changed
        try:
            yield
        except ModelChangedError as exc:
            self.changed = exc
            logger.error("nothing is written any more", extra={"reason": str(exc)})
            self._show_cosine(exc.cosine)
            self._parts.metrics.model_changed.labels(self._parts.target.model).set(1)
            raise

    def _show_cosine(self, cosine: float) -> None:
        self._parts.metrics.canary_cosine.labels(self._parts.target.model).set(cosine)

    def _remember(self, rows: Sequence[tuple[Work, int]], made: Embedding) -> None:
        """How these vectors are spread, of documents that are told apart by any number."""
        places = [(hash(work.record.key), number) for work, number in rows]
        self._parts.moments.add(made.vectors[: len(rows)], places)

    def _count_skipped(self, works: Sequence[Work]) -> None:
        for work in works:
            if work.outcome in ("unchanged", "superseded"):
                self._parts.metrics.skipped.labels(work.outcome).inc(len(work.chunks))
            elif work.known:
                self._parts.metrics.skipped.labels("reused").inc(len(work.known))

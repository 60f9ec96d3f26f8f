"""From where documents live into the topic: list, compare with what was published, fetch what changed, publish it.

A run that is killed at any moment is gone on with by the next one: what was published is remembered in the same
transaction. Unchanged objects are not fetched, and unchanged documents of changed ones are not published.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from agents.kafka.reader import LogReader, log_reader
from agents.progress import Report
from agents.settings import Settings
from agents.sources import Failure, Listed, Outgoing, PassedOver, Source
from agents.sources.publish import MANY, Change, Transactions, Wait, publisher, size_of
from agents.sources.state import Listing, Published, State, document_key, hash_of, state_topic
from streams.contract import Described
from streams.errors import RefusedError

BATCH_BYTES = 4 * 1024**2
KEPT = 10_000
"""Failures of a run that are listed, at most; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletes:
    """How many documents of a source may be deleted at once: a number, or a share of them."""

    count: int | None = None
    share: float = 0.1

    def of(self, documents: int) -> int:
        """So many, of so many."""
        return int(self.share * documents) if self.count is None else self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`again`: also what is unchanged. `sync`: what is gone from a source is deleted. `strict`: all, or nothing.

    `dry_run`: publish and remember nothing. `partitions`: of a topic that is made now.
    """

    sync: bool = False
    max_deletes: Deletes = Deletes()
    again: bool = False
    strict: bool = False
    dry_run: bool = False
    max_lag: int = 10_000
    partitions: int = 8


@dataclass(slots=True, kw_only=True)
class Summary:
    """What became of a run. Documents: `published`, `deleted`, `gone` (not deleted: no `sync`); objects: the others.

    `changed`: to be fetched, in a dry run; else fetched. `incomplete`: sources whose listing had failures.
    `options`: what would take a kind that was passed over.
    """

    published: int = 0
    deleted: int = 0
    gone: int = 0
    changed: int = 0
    unchanged: int = 0
    failed: int = 0
    failures: list[Failure] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    options: dict[str, str] = field(default_factory=dict)
    incomplete: list[str] = field(default_factory=list)

    def fail(self, failure: Failure) -> None:
        """Count it, and list it while the list is not long."""
        self.failed += 1
        if len(self.failures) < KEPT:
            self.failures.append(failure)

    def pass_over(self, found: PassedOver) -> None:
        """Count its kind."""
        self.passed_over[found.kind] += 1
        if found.option:
            self.options[found.kind] = found.option


async def run(settings: Settings, sources: Sequence[Source], options: Options, report: Report, wait: Wait) -> Summary:
    """Ingest each source in turn. Makes the topics that are missing, but in a dry run.

    Raises RefusedError when more would be deleted than may be, PenstockError when Kafka does not take it. What was
    published before either stays, and is remembered.
    """
    summary = Summary()
    async with AsyncExitStack() as stack, log_reader(settings) as reader:
        topic = await source_topic(reader, settings, None if options.dry_run else options.partitions)
        told = await state_topic(reader, settings.sources_topic, make=not options.dry_run)
        state = stack.enter_context(State(topic.log if topic else ""))
        limit = await largest(reader, settings.source.topic) if topic else 0
        for source in sources:
            stack.push_async_callback(source.close)
        if options.dry_run or options.strict:
            await told.read_into(state)
            for source in sources:
                await Ingestion(source, state, options, summary, report, limit).try_out()
        if topic is None or options.dry_run or summary.failed:
            return summary
        summary = Summary()
        for source in sources:
            async with publisher(settings, reader, state, source.name, topic.partitions, options.max_lag, wait) as to:
                await told.read_into(state)  # now that nobody else publishes for this source
                await Ingestion(source, state, options, summary, report, limit).publish_all(to)
    return summary


async def source_topic(reader: LogReader, settings: Settings, partitions: int | None) -> Described | None:
    """As it is; made with so many partitions where it is missing, or None without a number."""
    topic = settings.source.topic
    found = await reader.describe(topic)
    if found is None and partitions is not None:
        await reader.create_topic(topic, partitions, {})
        found = await reader.require_topic(topic)
    return found


async def largest(reader: LogReader, topic: str) -> int:
    """Bytes of a record that the topic takes; 0 where that is not known."""
    return int((await reader.configs(topic)).get("max.message.bytes", 0))


class Ingestion:
    """Of one source."""

    def __init__(
        self, source: Source, state: State, options: Options, summary: Summary, report: Report, limit: int
    ) -> None:
        """`limit`: bytes of a record that the topic takes; 0 where that is not known."""
        self._source = source
        self._state = state
        self._options = options
        self._summary = summary
        self._report = report
        self._limit = limit
        self._listing = Listing(changed=0, unchanged=0, documents=0, gone=0)
        self._complete = True
        self._changes: list[Change] = []
        self._rows: dict[bytes, bytes | None] = {}
        self._bytes = 0

    async def try_out(self) -> None:
        """What would be done; with `strict` what fails, too. Raises RefusedError as `publish_all` would at once."""
        await self._list()
        if self._options.strict:
            await self._read(None)
        self._summary.changed += self._listing.changed

    async def publish_all(self, to: Transactions) -> None:
        """Fetch what changed, and publish it; then delete what is gone.

        Raises RefusedError when more would be deleted than may.
        """
        await self._list()
        await self._read(to)
        await self._flush(to)
        await self._delete_gone(to)

    async def _list(self) -> None:
        """All that there is, beside what was published. Raises RefusedError when too much of that is gone."""
        self._state.begin_listing()
        count = 0
        async for found in self._source.listing():
            match found:
                case Listed():
                    self._state.add_listed(found)
                    count += 1
                    self._report(f"listing {self._source.name}", count, count)
                case Failure():
                    self._complete = False
                    self._summary.fail(found)
                case PassedOver():
                    self._complete = self._complete and not found.option  # elsewhere it may have been read
                    self._summary.pass_over(found)
        if not self._complete:
            self._summary.incomplete.append(self._source.name)
        self._listing = self._state.compare(self._source.name, again=self._options.again)
        self._summary.unchanged += self._listing.unchanged
        if self._options.sync and self._complete:
            self._require_few(self._listing.gone, "Nothing was published")

    async def _read(self, to: Transactions | None) -> None:
        """Fetch what changed, and publish it; with nowhere to publish to, what fails is known then."""
        doing = f"{'publishing' if to else 'reading'} {self._source.name}"
        rows = self._state.to_fetch(self._source.name, again=self._options.again)
        for number, listed in enumerate(rows):
            self._report(doing, number, self._listing.changed)
            whole = True
            async for found in self._source.fetch(listed):
                failure = found if isinstance(found, Failure) else self._take(listed, found, keep=to is not None)
                if failure:
                    whole = False
                    self._summary.fail(failure)
                if to:
                    await self._flush_when_full(to)
            self._state.was_read(listed.id, whole=whole)
            if whole and to:
                for doc, published in self._state.left(self._source.name, listed.id):
                    self._keep(*self._state.document_row(doc, published))
                    await self._flush_when_full(to)
                self._keep(*self._state.object_row(self._source.name, listed.id, listed.tag))
                self._summary.changed += 1
                await self._flush_when_full(to)
        self._report(doing, self._listing.changed, self._listing.changed)

    def _take(self, listed: Listed, outgoing: Outgoing, *, keep: bool) -> Failure | None:
        """To publish it, where it is not what was published last."""
        doc, name = outgoing.key.decode(), self._source.name
        before = self._state.published(doc)
        if before and before.source != name:
            return Failure(
                origin=outgoing.origin,
                reason=f"the document {doc} belongs to the source {before.source}: give this one ids of its own "
                "(`--prefix`)",
            )
        owner = self._state.see(doc, listed.id)
        if before and before.object != listed.id == owner:
            left = self._state.may_have_left(name, before.object, again=self._options.again)
            owner = listed.id if left else before.object
        if owner != listed.id:
            return Failure(origin=outgoing.origin, reason=f"the document {doc} is in {owner}, too: rename one")
        if self._limit and size_of(outgoing) > self._limit:
            return Failure(
                origin=outgoing.origin,
                reason=f"{size_of(outgoing)} bytes are more than the topic takes: raise its max.message.bytes "
                f"({self._limit}), or divide the document",
            )
        if not keep:
            return None
        value = outgoing.value or b""
        now = Published(source=name, object=listed.id, hash=hash_of(value))
        if before is None or before.hash != now.hash or self._options.again:
            self._changes.append(Change(outgoing=outgoing, published=now))
            self._rows.pop(document_key(doc), None)  # that it left another object: the record's own row says so
            self._bytes += len(value)
        elif before.object != listed.id:
            self._keep(*self._state.document_row(doc, replace(before, object=listed.id)))
        return None

    async def _delete_gone(self, to: Transactions) -> None:
        """Tombstones for what is gone, where that is wanted and the listing is complete, then their rows.

        Raises RefusedError when more would go than may: documents that an object does not have any more count too.
        """
        gone = sum(1 for _ in self._state.gone(self._source.name))
        if not (self._options.sync and self._complete):
            self._summary.gone += gone
            return
        self._require_few(gone, f"{self._summary.published} documents were published")
        for number, doc in enumerate(self._state.gone(self._source.name)):
            self._report(f"deleting {self._source.name}", number, gone)
            self._changes.append(Change(outgoing=Outgoing(key=doc.encode(), value=None, origin=doc), published=None))
            await self._flush_when_full(to)
        for name in self._state.gone_objects(self._source.name):
            self._keep(*self._state.object_row(self._source.name, name, None))
            await self._flush_when_full(to)
        await self._flush(to)

    def _require_few(self, gone: int, so_far: str) -> None:
        may = self._options.max_deletes.of(self._listing.documents)
        if gone > may:
            examples = ", ".join(doc for doc, _ in zip(self._state.gone(self._source.name), range(3), strict=False))
            raise RefusedError(
                f"{gone} of {self._listing.documents} documents of {self._source.name} are gone ({examples}…), more "
                f"than --max-deletes allows ({may}): none was deleted. {so_far}. If they are to go, run "
                f"`penstock ingest … --sync --max-deletes {gone}`"
            )

    def _keep(self, key: bytes, value: bytes | None) -> None:
        self._rows[key] = value

    async def _flush_when_full(self, to: Transactions) -> None:
        if len(self._changes) >= to.many or self._bytes >= BATCH_BYTES or len(self._rows) >= MANY:
            await self._flush(to)

    async def _flush(self, to: Transactions) -> None:
        changes, rows = self._changes, self._rows
        self._changes, self._rows, self._bytes = [], {}, 0
        if changes or rows:
            await to.publish(changes, list(rows.items()))
        deleted = sum(change.published is None for change in changes)
        self._summary.deleted += deleted
        self._summary.published += len(changes) - deleted

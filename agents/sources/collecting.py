"""What any run of a source shares: its options and its summary, whose document is whose, and batches of changes."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from agents.progress import Report
from agents.sources import Failure, Outgoing, PassedOver, Source
from agents.sources.failures import failure_key
from agents.sources.publish import MANY, Change, Transactions, Wait, size_of
from agents.sources.reading import Ids
from agents.sources.state import NOWHERE, Published, Row, State, document_key, hash_of
from streams.dead_letter import Failed
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
        """So many, of so many: of a share, one at least, or nothing could ever go from a small folder."""
        if self.count is not None:
            return self.count
        return max(1, int(self.share * documents)) if self.share else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`again`: also what is unchanged. `sync`: what is gone from a source is deleted. `strict`: all, or nothing.

    `dry_run`: publish and remember nothing. `partitions`: of a topic that is made now. `delete_excluded`: what is
    excluded is gone. `watched`: it is run again and again, so that what is refused or fails is told, and waits.
    `ids`: how the sources name their documents.
    """

    sync: bool = False
    max_deletes: Deletes = Deletes()
    again: bool = False
    strict: bool = False
    dry_run: bool = False
    delete_excluded: bool = False
    watched: bool = False
    max_lag: int = 10_000
    partitions: int = 8
    ids: Ids = Ids()  # noqa: RUF009 - frozen


@dataclass(slots=True, kw_only=True)
class Summary:
    """What became of a run. Documents: `published`, `deleted`, `gone` (not deleted: no `sync`); objects: the others.

    `changed`: to be fetched, in a dry run; else fetched. `incomplete`: sources whose listing had failures.
    `options`: what would take a kind that was passed over. `refused`: deletions, a source each.
    `strange`: records among notifications that are none.
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
    refused: list[RefusedError] = field(default_factory=list)
    strange: int = 0

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run stands on. `limit`: bytes of a record that the topic takes; 0 where that is not known."""

    state: State
    options: Options
    summary: Summary
    report: Report
    limit: int
    wait: Wait


class Work(Protocol):
    """A run of one source, beside what is known of it."""

    async def try_out(self) -> None:
        """What would be done, and refused."""

    async def publish_all(self, to: Transactions) -> None:
        """Publish what changed; then delete what is gone, unless that is more than may be."""


@runtime_checkable
class Crawled(Protocol):
    """A source whose objects are found while they are fetched, so that its runs are its own."""

    @property
    def name(self) -> str:
        """As of `Source`."""

    def work(self, run: Run) -> Work:
        """One run of it; inside an event loop."""

    async def close(self) -> None:
        """As of `Source`."""


AnySource = Source | Crawled


class Collector:
    """Changes of one source, and rows, until they are published together."""

    def __init__(self, source: str, run: Run) -> None:
        """`source`: its name."""
        self._source = source
        self._state = run.state
        self._options = run.options
        self._summary = run.summary
        self._report = run.report
        self._limit = run.limit
        self.deleted_lately = 0
        self.refused: RefusedError | None = None
        self._changes: list[Change] = []
        self._waiting: dict[str, Published] = {}
        """Of these changes, what each document is published as: an object may tell of it twice, and the last counts."""
        self._rows: dict[bytes, bytes | None] = {}
        self._failed: list[Failed] = []
        self._bytes = 0

    def take(self, object_id: str, outgoing: Outgoing, *, keep: bool) -> Failure | None:
        """To publish it, where it is not what was published last."""
        doc, name = outgoing.key.decode(), self._source
        before = self._waiting.get(doc) or self._state.published(doc)
        if before and before.source != name:
            return Failure(
                origin=outgoing.origin,
                reason=f"the document {doc} belongs to the source {before.source}: leave it out here (`--exclude`), or "
                "give what this source has ids of its own (`--prefix`)",
            )
        owner = self._state.see(doc, object_id)
        if before and before.object != object_id == owner:
            left = self._state.may_have_left(name, before.object, again=self._options.again)
            owner = object_id if left else before.object
        if owner != object_id:
            return Failure(origin=outgoing.origin, reason=f"the document {doc} is in {owner}, too: rename one")
        if self._limit and size_of(outgoing) > self._limit:
            return Failure(
                origin=outgoing.origin,
                reason=f"{size_of(outgoing)} bytes are more than the topic takes: raise its max.message.bytes "
                f"({self._limit}), or divide the document",
            )
        if not keep:
            return None
        if before and before.object not in (object_id, NOWHERE) and self._state.is_away(before.object):
            self.keep(*self._state.object_row(name, before.object, None))  # should it come back as it was, it is read
        value = outgoing.value or b""
        now = Published(source=name, object=object_id, hash=hash_of(value), named=self._options.ids.told)
        changed = before is None or before.hash != now.hash or self._options.again
        if changed or (before and before.object != object_id):
            # until all of it is published: should it come back as it was before, it is read
            self.keep(*self._state.object_row(name, object_id, None))
        if changed:
            self._changes.append(Change(outgoing=outgoing, published=now))
            self._waiting[doc] = now
            self._rows.pop(document_key(doc), None)  # that it left another object: the record's own row says so
            self._bytes += len(value)
        elif before and before.object != object_id:
            self.keep(*self._state.document_row(doc, replace(before, object=object_id)))
        return None

    def leave(self, doc: str, published: Published, *, some: bool) -> bool:
        """A document that its object does not have any more. Returns whether it waits for `delete_gone`.

        Where the object has `some` others, one that only got another id is deleted at once, allowed by `again`.
        """
        if some and self._options.sync and published.named not in (None, self._options.ids.told):
            self._changes.append(deletion(doc))
            return False
        self.keep(*self._state.document_row(doc, published))
        return True

    async def delete_gone(self, to: Transactions, last: Row | None = None, *, complete: bool) -> None:
        """Tombstones for what is gone, where that is wanted and the listing is complete, then their rows, and `last`.

        None of them when more would go than may: documents that an object does not have any more count too.
        """
        gone = self.to_delete(complete=complete)
        if gone is None:
            await self.flush(to, last)
            return
        for number, doc in enumerate(self._state.gone(self._source), 1):
            self._report(f"deleting {self._source}", number, gone)
            self._changes.append(deletion(doc))
            await self.flush_when_full(to)
        for name in self._state.gone_objects(self._source):
            self.keep(*self._state.object_row(self._source, name, None))
            await self.flush_when_full(to)
        await self.flush(to, last)

    def to_delete(self, *, complete: bool) -> int | None:
        """How much of what is gone is to go; None where it stays: it is counted then, and told where it is too much.

        What was deleted lately counts, too, by one notification after the other.
        """
        gone = sum(1 for _ in self._state.gone(self._source))
        wanted, lately = self._options.sync and complete, self.deleted_lately if gone else 0
        documents = self._state.documents(self._source) if wanted and gone else 0
        may = self._options.max_deletes.of(documents)
        if wanted and gone + lately <= may:
            return gone
        self._summary.gone += gone
        if wanted:
            named = [doc for doc, _ in zip(self._state.gone(self._source), range(3), strict=False)]
            examples = ", ".join(named) + ("…" if gone > len(named) else "")
            self.refused = RefusedError(
                f"{gone + lately} of {documents} documents of {self._source} are gone ({examples}), more than "
                f"--max-deletes allows ({may}): none was deleted. If they are to go, run "
                f"`penstock ingest … --sync --max-deletes {gone + lately}`"
            )
            self._summary.refused.append(self.refused)
        return None

    def fail(self, name: str, failure: Failure, *, tag: str = "", others: int = 0) -> None:
        """An object failed, at first for this: a dead letter, unless that stands so. `others`: more of them."""
        where = f"line {failure.line}: " if failure.line else ""
        more = f" (and {others} more)" if others else ""
        failed = Failed(
            source=self._source, object=name, tag=tag, error=failure.error, reason=f"{where}{failure.reason}{more}"
        )
        if self._state.failures.add(failed, again=self._options.again):
            self._failed.append(failed)

    def mend(self, name: str) -> None:
        """An object was published, or leads to nothing that could be: it is none that failed."""
        if self._state.failures.is_over(self._source, name):
            self.keep(failure_key(self._source, name), None)

    async def mend_others(self, to: Transactions, *, complete: bool) -> None:
        """What failed before and is gone, or as it was published, at the end of a run. `complete`: all was listed."""
        for name in self._state.mended(self._source, complete=complete):
            self.keep(failure_key(self._source, name), None)
            await self.flush_when_full(to)

    def keep(self, key: bytes, value: bytes | None) -> None:
        self._rows[key] = value

    async def flush_when_full(self, to: Transactions) -> None:
        rows = len(self._rows) + len(self._failed)
        if len(self._changes) >= to.many or self._bytes >= BATCH_BYTES or rows >= MANY:
            await self.flush(to)

    async def flush(self, to: Transactions, last: Row | None = None) -> None:
        if last:
            self.keep(*last)
        changes, rows, failed = self._changes, self._rows, self._failed
        self._changes, self._waiting, self._rows, self._failed, self._bytes = [], {}, {}, [], 0
        if changes or rows or failed:
            await to.publish(changes, list(rows.items()), failed)
        deleted = sum(change.published is None for change in changes)
        self._summary.deleted += deleted
        self._summary.published += len(changes) - deleted


def deletion(doc: str) -> Change:
    """The tombstone of a document."""
    return Change(outgoing=Outgoing(key=doc.encode(), value=None, origin=doc), published=None)

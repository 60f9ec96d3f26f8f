"""From where documents live into the topic: list, compare with what was published, fetch what changed, publish it.

A run that is killed at any moment is gone on with by the next one: what was published is remembered in the same
transaction. Unchanged objects are not fetched, and unchanged documents of changed ones are not published.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from agents.progress import Report
from agents.sources import Failure, Listed, Outgoing, PassedOver, Source, Told
from agents.sources.publish import MANY, Change, Transactions, size_of
from agents.sources.state import NOWHERE, Listing, Published, Row, State, document_key, hash_of
from streams.errors import AwayError, PenstockError, RefusedError

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


@dataclass(slots=True, kw_only=True)
class Summary:
    """What became of a run. Documents: `published`, `deleted`, `gone` (not deleted: no `sync`); objects: the others.

    `changed`: to be fetched, in a dry run; else fetched. `incomplete`: sources whose listing had failures.
    `options`: what would take a kind that was passed over. `refused`: deletions, where that ends nothing.
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
    refused: list[str] = field(default_factory=list)
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
        self.deleted_lately = 0
        self._listing = Listing(changed=0, unchanged=0)
        self._complete = True
        self._changes: list[Change] = []
        self._rows: dict[bytes, bytes | None] = {}
        self._bytes = 0
        self._told: Told | None = None
        self._some_left = False

    async def try_out(self) -> None:
        """What would be done; with `strict` what fails, too. Raises RefusedError as `publish_all` would at once."""
        await self._list()
        if self._options.strict:
            await self._read(None)
        self._summary.changed += self._listing.changed

    async def publish_all(self, to: Transactions, last: Row | None = None) -> None:
        """Fetch what changed, and publish it; then delete what is gone. `last`: a row that is written after all.

        Raises RefusedError when more would be deleted than may.
        """
        await self._list()
        await self._read(to)
        await self._flush(to)
        await self._delete_gone(to, last)

    async def publish_some(self, told: Told, names: Iterable[str], to: Transactions, last: Row) -> None:
        """The same for the objects of these ids alone, as they are now; all else is as it was.

        `told`: the source. `last` is written in the transaction of the last record.
        """
        self._told = told
        self._state.begin_listing(partial=True)
        for name in names:
            await self._look(told, name)
        self._listing = self._state.compare(self._source.name, again=False)
        await self._read(to)
        if self._options.sync and self._some_left:  # they are gone once the state knows
            await self._flush(to)
        await self._delete_gone(to, last)

    async def _look(self, told: Told, name: str) -> None:
        try:
            found = await told.look(name)
        except AwayError:
            raise
        except PenstockError as exc:
            self._summary.fail(Failure(origin=name, reason=str(exc)))
            return
        if isinstance(found, Listed):
            self._state.add_listed(found)
        elif found is None:
            self._state.add_gone(name)
        else:
            self._summary.pass_over(found)

    async def _list(self) -> None:
        """All that there is, beside what was published. Raises RefusedError when too much of that is gone."""
        self._state.begin_listing()
        count = 0
        async for found in self._source.listing():
            match found:
                case Listed():
                    if not self._state.add_listed(found):
                        self._complete = False
                        reason = "two objects are listed under this name, as far as it can be written: rename one"
                        self._summary.fail(Failure(origin=found.id, reason=reason))
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
        if not self._options.delete_excluded:
            self._state.leave_out(self._source.name, self._source.excludes)
        self._listing = self._state.compare(self._source.name, again=self._options.again)
        self._summary.unchanged += self._listing.unchanged
        if self._options.sync and self._complete and not self._options.watched:
            self._may_delete(sum(1 for _ in self._state.gone(self._source.name)), "Nothing was published")

    async def _read(self, to: Transactions | None) -> None:
        """Fetch what changed, and publish it; with nowhere to publish to, what fails is known then."""
        doing = f"{'publishing' if to else 'reading'} {self._source.name}"
        rows = self._state.to_fetch(self._source.name, again=self._options.again)
        for number, listed in enumerate(rows):
            self._report(doing, number, self._listing.changed)
            whole, read = True, listed
            async for found in self._source.fetch(listed):
                if isinstance(found, Listed):
                    read = found
                    continue
                if isinstance(found, Outgoing):
                    await self._look_where_it_was(found)
                failure = found if isinstance(found, Failure) else self._take(listed, found, keep=to is not None)
                if failure:
                    whole = False
                    self._summary.fail(failure)
                if to:
                    await self._flush_when_full(to)
            self._state.was_read(listed.id, whole=whole)
            if self._options.watched and to:
                self._state.put_off(listed, failed=not whole)
            if whole and to:
                for doc, published in self._state.left(self._source.name, listed.id):
                    self._keep(*self._state.document_row(doc, published))
                    self._some_left = True
                    await self._flush_when_full(to)
                self._keep(*self._state.object_row(self._source.name, listed.id, read.tag, read.version))
                self._summary.changed += 1
                await self._flush_when_full(to)
        self._report(doing, self._listing.changed, self._listing.changed)

    async def _look_where_it_was(self, outgoing: Outgoing) -> None:
        """The object that had this document before, where nobody has looked at it so far: it may have it still."""
        if self._told is None:
            return
        before = self._state.published(outgoing.key.decode())
        if not before or before.source != self._source.name or before.object == NOWHERE:
            return
        if not self._state.is_listed(before.object) and self._told.concerns(before.object):
            await self._look(self._told, before.object)

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
        if before and before.object not in (listed.id, NOWHERE) and self._state.is_away(before.object):
            self._keep(*self._state.object_row(name, before.object, None))  # should it come back as it was, it is read
        value = outgoing.value or b""
        now = Published(source=name, object=listed.id, hash=hash_of(value))
        if before is None or before.hash != now.hash or self._options.again:
            self._changes.append(Change(outgoing=outgoing, published=now))
            self._rows.pop(document_key(doc), None)  # that it left another object: the record's own row says so
            self._bytes += len(value)
        elif before.object != listed.id:
            self._keep(*self._state.document_row(doc, replace(before, object=listed.id)))
        return None

    async def _delete_gone(self, to: Transactions, last: Row | None) -> None:
        """Tombstones for what is gone, where that is wanted and the listing is complete, then their rows.

        Raises RefusedError when more would go than may: documents that an object does not have any more count too.
        """
        gone = sum(1 for _ in self._state.gone(self._source.name))
        may = self._options.sync and self._complete
        if not may or not self._may_delete(gone, f"{self._summary.published} documents were published"):
            self._summary.gone += gone
            await self._flush(to, last)
            return
        for number, doc in enumerate(self._state.gone(self._source.name)):
            self._report(f"deleting {self._source.name}", number, gone)
            self._changes.append(Change(outgoing=Outgoing(key=doc.encode(), value=None, origin=doc), published=None))
            await self._flush_when_full(to)
        for name in self._state.gone_objects(self._source.name):
            self._keep(*self._state.object_row(self._source.name, name, None))
            await self._flush_when_full(to)
        await self._flush(to, last)

    def _may_delete(self, gone: int, so_far: str) -> bool:
        """Together with what was deleted lately, by one notification after the other."""
        gone += self.deleted_lately if gone else 0
        documents = self._state.documents(self._source.name) if gone else 0
        may = self._options.max_deletes.of(documents)
        if gone <= may:
            return True
        examples = ", ".join(doc for doc, _ in zip(self._state.gone(self._source.name), range(3), strict=False))
        refusal = RefusedError(
            f"{gone} of {documents} documents of {self._source.name} are gone ({examples}…), more "
            f"than --max-deletes allows ({may}): none was deleted. {so_far}. If they are to go, run "
            f"`penstock ingest … --sync --max-deletes {gone}`"
        )
        if not self._options.watched:
            raise refusal
        self._summary.refused.append(str(refusal))
        return False

    def _keep(self, key: bytes, value: bytes | None) -> None:
        self._rows[key] = value

    async def _flush_when_full(self, to: Transactions) -> None:
        if len(self._changes) >= to.many or self._bytes >= BATCH_BYTES or len(self._rows) >= MANY:
            await self._flush(to)

    async def _flush(self, to: Transactions, last: Row | None = None) -> None:
        if last:
            self._keep(*last)
        changes, rows = self._changes, self._rows
        self._changes, self._rows, self._bytes = [], {}, 0
        if changes or rows:
            await to.publish(changes, list(rows.items()))
        deleted = sum(change.published is None for change in changes)
        self._summary.deleted += deleted
        self._summary.published += len(changes) - deleted

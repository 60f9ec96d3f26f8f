"""From where documents live into the topic: list, compare with what was published, fetch what changed, publish it.

A run that is killed at any moment is gone on with by the next one: what was published is remembered in the same
transaction. Unchanged objects are not fetched, and unchanged documents of changed ones are not published.
"""

from collections.abc import Iterable

from agents.sources import Failure, Listed, Outgoing, PassedOver, Source, Told
from agents.sources.collecting import Collector, Run
from agents.sources.publish import Transactions
from agents.sources.state import NOWHERE, Listing, Row
from streams.errors import AwayError, PenstockError


class Ingestion:
    """Of one source."""

    def __init__(self, source: Source, run: Run) -> None:
        self._source = source
        self._state = run.state
        self._options = run.options
        self._summary = run.summary
        self._report = run.report
        self._collector = Collector(source.name, run)
        self._listing = Listing(changed=0, unchanged=0)
        self._complete = True
        self._told: Told | None = None
        self._some_left = False

    async def try_out(self) -> None:
        """What would be done, and refused; with `strict` what fails, too."""
        await self._list()
        if self._options.strict:
            await self._read(None)
        self._summary.changed += self._listing.changed
        if self._complete:
            self._collector.to_delete(complete=True)

    async def publish_all(self, to: Transactions, last: Row | None = None) -> None:
        """Fetch what changed, and publish it; then delete what is gone. `last`: a row that is written after all."""
        await self._list()
        await self._read(to)
        await self._collector.mend_others(to, complete=self._complete)
        await self._collector.flush(to)
        await self._collector.delete_gone(to, last, complete=self._complete)

    async def publish_some(
        self, told: Told, names: Iterable[str], to: Transactions, last: Row, *, deleted_lately: int = 0
    ) -> None:
        """The same for the objects of these ids alone, as they are now; all else is as it was.

        `told`: the source. `last` is written in the transaction of the last record. `deleted_lately`: documents that
        count against what may be deleted, too.
        """
        self._collector.deleted_lately = deleted_lately
        self._told = told
        self._state.begin_listing(partial=True)
        for name in names:
            await self._look(told, name)
        self._listing = self._state.compare(self._source.name, again=False)
        await self._read(to)
        await self._collector.mend_others(to, complete=False)
        if self._options.sync and self._some_left:  # they are gone once the state knows
            await self._collector.flush(to)
        await self._collector.delete_gone(to, last, complete=self._complete)

    def _fail(self, name: str, failure: Failure) -> None:
        self._summary.fail(failure)
        self._collector.fail(name, failure)

    async def _look(self, told: Told, name: str) -> None:
        try:
            found = await told.look(name)
        except AwayError:
            raise
        except PenstockError as exc:
            self._fail(name, Failure(origin=name, reason=str(exc)))
            return
        if isinstance(found, Listed):
            self._state.add_listed(found)
        elif found is None:
            self._state.add_gone(name)
        else:
            self._summary.pass_over(found)

    async def _list(self) -> None:
        """All that there is, beside what was published."""
        self._state.begin_listing()
        count = 0
        async for found in self._source.listing():
            match found:
                case Listed():
                    if not self._state.add_listed(found):
                        self._complete = False
                        reason = "two objects are listed under this name, as far as it can be written: rename one"
                        self._fail(found.id, Failure(origin=found.id, reason=reason))
                    count += 1
                    self._report(f"listing {self._source.name}", count, count)
                case Failure():
                    self._complete = False
                    self._fail(found.object or found.origin, found)
                case PassedOver():
                    self._complete = self._complete and not found.option  # elsewhere it may have been read
                    self._summary.pass_over(found)
        if not self._complete:
            self._summary.incomplete.append(self._source.name)
        if not self._options.delete_excluded:
            self._state.leave_out(self._source.name, self._source.excludes)
        self._listing = self._state.compare(self._source.name, again=self._options.again)
        self._summary.unchanged += self._listing.unchanged

    async def _read(self, to: Transactions | None) -> None:
        """Fetch what changed, and publish it; with nowhere to publish to, what fails is known then."""
        doing = f"{'publishing' if to else 'reading'} {self._source.name}"
        rows = self._state.to_fetch(self._source.name, again=self._options.again)
        for number, listed in enumerate(rows):
            self._report(doing, number, self._listing.changed)
            read, some, failures = listed, False, 0
            first: Failure | None = None
            async for found in self._source.fetch(listed):
                if isinstance(found, Listed):
                    read = found
                    continue
                failure: Failure | None = found if isinstance(found, Failure) else None
                if isinstance(found, Outgoing):
                    some = True
                    await self._look_where_it_was(found)
                    failure = self._collector.take(listed.id, found, keep=to is not None)
                if failure:
                    first, failures = first or failure, failures + 1
                    self._summary.fail(failure)
                if to:
                    await self._collector.flush_when_full(to)
            whole = first is None
            self._state.was_read(listed.id, whole=whole)
            if first and to:
                self._collector.fail(listed.id, first, tag=read.tag, others=failures - 1)
                await self._collector.flush_when_full(to)
            if self._options.watched and to:
                self._state.put_off(listed, failed=not whole)
            if whole and to:
                for doc, published in self._state.left(self._source.name, listed.id):
                    self._some_left |= self._collector.leave(doc, published, some=some)
                    await self._collector.flush_when_full(to)
                self._collector.keep(*self._state.object_row(self._source.name, listed.id, read.tag, read.version))
                self._collector.mend(listed.id)
                self._summary.changed += 1
                await self._collector.flush_when_full(to)
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

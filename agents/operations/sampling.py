"""Some records of a topic, evenly over its partitions and offsets: page by page, where several are in one."""

from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence

from agents.kafka.reader import LogReader
from streams.ports import Bounds, Page
from streams.record import Record


async def spread(reader: LogReader, topic: str, count: int) -> AsyncIterator[Record]:
    """So many records, by partition and offset; fewer where there are no more. Raises as `LogReader.page`."""
    bounds = await reader.bounds(topic, range(await reader.require_partitions(topic)))
    for partition, offsets in targets(bounds, count).items():
        end, after, page = bounds[partition].end, 0, Page(records=[], position=0, start=0)
        for offset in offsets:
            record = None
            wanted = max(offset, after)
            while record is None and wanted < end:
                if wanted >= page.position:
                    page = await reader.page(topic, partition, wanted, end)
                record = _at_or_after(page.records, wanted)
                wanted = page.position
            if record is None:
                break
            after = record.offset + 1
            yield record


def targets(bounds: dict[int, Bounds], count: int) -> dict[int, list[int]]:
    """Offsets by partition: as far from one to the next as can be, of all partitions laid end to end."""
    total = sum(bound.end - bound.begin for bound in bounds.values())
    chosen = min(count, total)
    places = [(2 * number + 1) * total // (2 * chosen) for number in range(chosen)]
    found, begun = {}, 0
    for partition, bound in bounds.items():
        ended = begun + bound.end - bound.begin
        own = places[bisect_left(places, begun) : bisect_left(places, ended)]
        found[partition] = [bound.begin + place - begun for place in own]
        begun = ended
    return found


def _at_or_after(records: Sequence[Record], offset: int) -> Record | None:
    place = bisect_left(records, offset, key=lambda record: record.offset)
    return records[place] if place < len(records) else None

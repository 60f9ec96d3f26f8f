"""What is left of a document whose record is gone: of whatever moments chunks and registry are, they agree then."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from streams.examine import Row, examine
from streams.ids import version
from streams.plan import chunk_hash
from streams.registry import UNKNOWN, Entry
from streams.salvage import newest_whole, what_is_left

sizes = st.lists(st.integers(0, 4), min_size=1, max_size=5)
"""Chunks of a document's records, one after the other; 0: a deletion."""


def entry_of(ns: Sequence[int], *, state: str = "done") -> Entry | None:
    """The registry's, after these records."""
    if not ns:
        return None
    made = version(0, len(ns) - 1)
    hi = max(ns) if state == "writing" else ns[-1]
    return Entry(
        doc_id="d",
        partition=0,
        version=made,
        state=state,  # type: ignore[arg-type]
        n=ns[-1],
        hi=hi,
        content_hash=f"{len(ns)}",
        chunk_index_uuid="u",
        content_version=made,
    )


def rows_of(ns: Sequence[int], half: int | None = None) -> dict[int, Row]:
    """The chunk index's, after these records; of the last one only so many rows were written."""
    rows: dict[int, Row] = {}
    for offset, (before, n) in enumerate(zip((0, *ns), ns, strict=False)):
        for number in range(max(n, before)):
            if half is not None and offset == len(ns) - 1 and number >= half:
                break
            hashed = chunk_hash(f"{offset}/{number}")
            row = Row(version=version(0, offset), stub=number >= n, partition=0)
            rows[number] = row if row.stub else replace(row, text_hash=hashed, chunk_hash=hashed, chunks=n)
    return rows


def kept(rows: dict[int, Row], entry: Entry) -> dict[int, Row]:
    """As a repair leaves them."""
    return {k: row if k < entry.n else replace(row, stub=True) for k, row in rows.items()}


@given(sizes, st.data())
def test_chunks_and_entry_of_any_two_moments_agree_afterwards(ns: list[int], data: st.DataObject) -> None:
    written, known = data.draw(st.integers(0, len(ns))), data.draw(st.integers(0, len(ns)))
    state = data.draw(st.sampled_from(["done", "writing"]))
    rows, entry = rows_of(ns[:written]), entry_of(ns[:known], state=state)
    set_back = written > known or data.draw(st.booleans())
    left = what_is_left("d", entry, rows, chunk_index_uuid="u", registry_set_back=set_back)
    if left is None:
        assert entry is None
        assert not rows
        return
    assert list(examine("d", None, left.entry, kept(rows, left.entry))) == []
    newest = max(written, known)
    if written <= known or ns[written - 1]:  # a deletion of nothing leaves no trace among the chunks
        assert left.entry.version == version(0, newest - 1)
    if written >= known or not ns[known - 1]:  # the chunks are the newest record's
        assert not left.lost
        assert left.entry.n == ns[newest - 1]
    else:
        assert left.lost
        assert left.entry.n in (ns[written - 1] if written else 0, 0)
        assert left.entry.content_hash == UNKNOWN
    again = what_is_left("d", left.entry, kept(rows, left.entry), chunk_index_uuid="u", registry_set_back=False)
    assert again
    assert not again.lost
    assert again.entry == left.entry


@given(sizes, st.integers(0, 4))
def test_of_what_is_half_written_nothing_is_mixed(ns: list[int], half: int) -> None:
    rows = rows_of(ns, half)
    left = what_is_left("d", entry_of(ns, state="writing"), rows, chunk_index_uuid="u", registry_set_back=False)
    assert left
    assert list(examine("d", None, left.entry, kept(rows, left.entry))) == []
    alive = {row.version for k, row in rows.items() if k < left.entry.n}
    assert len(alive) <= 1
    assert not alive or left.entry.content_version in alive
    assert left.lost == ((left.entry.n, left.entry.content_version) != (ns[-1], version(0, len(ns) - 1)))


def test_content_that_came_again_is_not_lost() -> None:
    entry = entry_of([2])
    assert entry
    touched = replace(entry, version=version(0, 7))
    rows = rows_of([2])
    for content in (version(0, 0), None):  # None: from before it was kept
        left = what_is_left(
            "d", replace(touched, content_version=content), rows, chunk_index_uuid="u", registry_set_back=False
        )
        assert left
        assert not left.lost
        assert (left.entry.version, left.entry.content_hash) == (touched.version, "1")


def test_a_text_that_somebody_changed_is_not_whole() -> None:
    rows = rows_of([3])
    assert newest_whole(rows) == (version(0, 0), 3)
    rows[1] = replace(rows[1], text_hash=chunk_hash("another"))
    assert newest_whole(rows) is None


def test_a_key_on_another_partition_in_another_epoch_is_where_its_chunks_say() -> None:
    rows = {k: replace(row, version=version(1, 3), partition=2) for k, row in rows_of([2]).items()}
    left = what_is_left("d", entry_of([2]), rows, chunk_index_uuid="u", registry_set_back=True)
    assert left
    assert not left.lost
    assert (left.entry.partition, left.entry.version, left.entry.n) == (2, version(1, 3), 2)

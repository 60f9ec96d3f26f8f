"""Where a rebuild takes documents from, and which of them."""

import pytest

from agents.operations.rebuild import _base, _is_due
from streams.errors import RefusedError
from streams.generations import Generation
from streams.registry import Entry, State, Stored


def generation(name: str, rebuild: dict[str, object] | None = None) -> Generation:
    return Generation(
        index=name,
        number=1,
        contract={"cuts": []},
        group=None,
        serving=False,
        before=None,
        aliases=(),
        rebuild=rebuild,
    )


NEW = generation("new", {"base": "old", "from": {"0": 0, "1": 0}})


def test_a_rebuild_whose_base_is_gone_goes_on_only_when_the_topic_has_everything() -> None:
    old = generation("old")
    assert _base(NEW, [old, NEW], {0: 5, 1: 0}, compacted=True) == old
    assert _base(NEW, [NEW], {0: 0, 1: 0}, compacted=False) is None
    for starts, compacted in (({0: 0, 1: 1}, False), ({0: 0, 1: 0}, True)):
        with pytest.raises(RefusedError, match="from old, which is gone: `penstock index drop new`, then"):
            _base(NEW, [NEW], starts, compacted=compacted)


def entry(version: int, n: int, state: State = "done") -> Entry:
    return Entry(
        doc_id="d", partition=0, version=version, state=state, n=n, hi=n, content_hash="h", chunk_index_uuid="u"
    )


@pytest.mark.parametrize(
    ("found", "there", "due"),
    [
        (entry(5, 2), None, True),
        (entry(5, 0), None, True),  # deleted: an older record of it may be in a dead letter
        (entry(5, 2), entry(5, 2), False),
        (entry(5, 2), entry(5, 2, "writing"), True),  # interrupted
        (entry(5, 2), entry(3, 2), True),  # changed while the rebuild was interrupted, and lost by the topic
        (entry(5, 0), entry(3, 2), True),  # deleted meanwhile
        (entry(5, 2), entry(7, 2), False),
    ],
)
def test_what_is_taken_from_the_serving_index(found: Entry, there: Entry | None, due: bool) -> None:
    assert _is_due(found, Stored(entry=there, seq_no=1, primary_term=1) if there else None) is due

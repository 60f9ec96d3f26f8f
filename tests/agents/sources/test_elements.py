"""JSON of a file, document by document: any array in any layout is what `json` reads, in memory that does not grow."""

import io
import json
import re
import tracemalloc
from contextlib import nullcontext
from typing import IO, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.sources import elements as module
from agents.sources.elements import Element, NoElementsError, elements

LEAVES = st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\[]{},: \n\u2028é')
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
)


def read(raw: bytes, largest: int = 1000) -> list[Element]:
    return [one for one in elements(io.BytesIO(raw), largest) if one]


@given(
    values=st.lists(VALUES, max_size=6), indent=st.none() | st.just(2), ascii_=st.booleans(), block=st.integers(3, 9)
)
def test_an_array_is_its_elements(values: list[Any], indent: int | None, ascii_: bool, block: int) -> None:
    raw = json.dumps(values, indent=indent, ensure_ascii=ascii_).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", block)  # so that a block ends anywhere, within an escape too
        found = read(raw + b"\n", 10_000)
        assert read(b"\xef\xbb\xbf \n" + raw, 10_000) == found
    assert [json.loads(one.value or b"") for one in found] == values
    assert [one.index for one in found] == list(range(len(values)))


@settings(max_examples=30)
@given(value=st.dictionaries(st.text(max_size=3), VALUES, max_size=4), block=st.integers(1, 9))
def test_an_object_is_one(value: dict[str, Any], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", block)
        (found,) = read(json.dumps(value).encode() + b" \r\n", 10_000)
    assert (json.loads(found.value or b""), found.index) == (value, None)


@pytest.mark.parametrize(
    ("raw", "before", "part"),
    [
        (b"", 0, None),
        (b" \n", 0, None),
        (b"[ ]", 0, None),
        (b'"text, [a]"', 0, "begins with neither"),
        (b"12", 0, "begins with neither"),
        (b"]", 0, "begins with neither"),
        (b'[{"a": 1}, {"a": "2', 1, "ends in the midst"),
        (b"[1, 2", 1, "ends in the midst"),
        (b'{"a": 1', 0, "ends in the midst"),
        (b'{"a": 1}\n{"a": 2}\n', 0, "more follows"),
        (b"[1] 2", 1, "more follows"),
        (b"[1}", 0, "`}` ends what `[` began"),
        (b"[,1,]", 3, None),
        (b"[1" + b"0" * 1000 + b", 2]", 2, None),
    ],
)
def test_what_is_no_array_says_so(raw: bytes, before: int, part: str | None) -> None:
    found = list[Element]()
    with pytest.raises(NoElementsError, match=re.escape(part)) if part else nullcontext():
        found.extend(filter(None, elements(io.BytesIO(raw), 1000)))  # also what comes before it raises
    assert len(found) == before
    assert all(one.value is None or len(one.value) <= 1000 for one in found)


def test_memory_does_not_grow_with_an_array_or_a_value() -> None:
    class Endless(io.RawIOBase):
        """An array of 64 MiB: half of it in one string, half in numbers."""

        def __init__(self) -> None:
            self.left = [b"[1", *[b"," + b"2" * 999] * 32_000, b', "', *[b"x" * 1000] * 32_000, b'"]'][::-1]

        def read(self, size: int = -1) -> bytes:
            return self.left.pop() if self.left else b""

    opened = Endless()
    tracemalloc.start()
    count = sum(one is not None for one in elements(cast(IO[bytes], opened), 10_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 32_002
    assert peak < 1_000_000

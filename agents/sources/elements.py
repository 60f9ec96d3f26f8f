"""JSON of a file: the documents of an array, one by one, or the one that it is, each as the bytes that are there.

In bounded memory, however long an array or a value is, which no library that streams JSON promises; and what is wrong
with one document ends with it, where they give up.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

BLOCK_BYTES = 1024**2
BOM = b"\xef\xbb\xbf"
SPACE = b" \t\r\n"
OUTSIDE = re.compile(rb'["\[\]{},]')
INSIDE = re.compile(rb'["\\]')
"""What counts outside of strings, and in one."""
DEEPER = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
ENDS = {b"[": b"]", b"{": b"}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """`index`: in the array, from 0; None where there is none. `value`: bytes to parse; None of too many."""

    value: bytes | None
    index: int | None = None


class NoElementsError(ValueError):
    """What is neither an object nor an array, or ends in the midst of it, or has `more` behind it."""

    def __init__(self, why: str, *, more: bool = False) -> None:
        super().__init__(why)
        self.more = more


def elements(opened: IO[bytes], largest: int) -> Iterator[Element | None]:
    """Of a file in UTF-8, none of a file of white space. No value has more than `largest` bytes, or need be JSON.

    None after each `BLOCK_BYTES`, whatever was in them: for whoever has something else to do, too.
    Raises NoElementsError, of an array perhaps after some of it.
    """
    root, depth, index = b"", 0, 0
    kept, whole = bytearray(), True
    for piece, mark in _pieces(opened):
        if not mark:
            yield None
        if root and not depth and piece.strip(SPACE):
            raise NoElementsError("more follows behind its end", more=True)
        depth += DEEPER.get(mark, 0)
        if not root:
            root = piece.strip(SPACE)
            if root not in (b"", *ENDS):
                raise NoElementsError("it begins with neither `[` nor `{`")
            if root != b"{":
                continue
        ends = bool(mark) and not depth
        if ends and mark != ENDS[root]:
            raise NoElementsError(f"`{mark.decode()}` ends what `{root.decode()}` began")
        parted = root == b"[" and (ends or (depth == 1 and mark == b","))
        kept += piece[:-1] if parted else piece
        if len(kept) > largest:
            whole = False
            kept.clear()
        if parted:
            value = bytes(kept).strip(SPACE)
            if value or index or not (ends and whole):  # of an empty array nothing
                yield Element(value=value if whole else None, index=index)
            index += 1
            kept, whole = bytearray(), True
    if depth:
        raise NoElementsError("it ends in the midst of it")
    if root == b"{":
        yield Element(value=bytes(kept) if whole else None)


def _pieces(opened: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """All of it, cut behind each bracket and comma that is in no string, with that; b"" where only a block ends."""
    pattern, at, first = OUTSIDE, 0, True
    while block := opened.read(BLOCK_BYTES):
        start = len(BOM) if first and block.startswith(BOM) else 0
        first, at = False, max(at, start)
        while found := pattern.search(block, at):
            at = found.end()
            if found[0] == b'"':
                pattern = INSIDE if pattern is OUTSIDE else OUTSIDE
            elif found[0] == b"\\":
                at += 1
            else:
                yield block[start:at], found[0]
                start = at
        at = max(0, at - len(block))  # an escape whose other half is in the next one
        yield block[start:], b""

"""A text as overlapping spans of so many characters, in a time that is linear in its length.

The splitter finds the best bounds, but looks from each chunk on to the next sentence, word or line break of a higher
level, however far that is: its time is the square of the longest stretch without any, and the cube of white space over
many lines. Ordinary texts have neither, and are split as a whole. The others are cut into windows beforehand.
"""

import re
from collections.abc import Iterable, Iterator

from semantic_text_splitter import TextSplitter

WINDOW = 32 * 1024
"""Characters; at least 16 chunks."""
BOUND = re.compile(r"[\n\r\x85\u2028\u2029]|[.?!]\s(?=[A-ZÀ-ÖА-Я])|[?!。！？؟।]\s?(?=\w)")
"""Ends a sentence for certain (Unicode Standard Annex 29); there are others."""
MAX_LINE_WORK = 4 * 10**12
"""Characters × line breaks: the splitter goes through all line breaks that are left for each chunk. Some seconds."""
WHITE = re.compile(r"\s{256,}+")
MAX_WHITE_LINES = 64

Span = tuple[int, str]
"""Where it begins, in characters, and its text: without white space at its ends."""


def spans(text: str, max_chars: int, overlap_chars: int) -> Iterable[Span]:
    """Spans in order, each of at most `max_chars`. Every character that is not white space is in at least one."""
    splitter = TextSplitter(max_chars, overlap=overlap_chars)
    window = max(WINDOW, 16 * max_chars)
    few_lines = text.count("\n") + text.count("\r") <= MAX_WHITE_LINES
    if few_lines and ordinary(text, window):  # most texts, at once
        return splitter.chunk_indices(text)
    return _by_blocks(text, splitter, window)


def _by_blocks(text: str, splitter: TextSplitter, window: int) -> Iterator[Span]:
    for start, end in _blocks(text):
        block = text[start:end]
        found = iter(splitter.chunk_indices(block)) if ordinary(block, window) else _windows(block, splitter, window)
        for inner, piece in found:
            yield start + inner, piece


def ordinary(text: str, window: int = WINDOW) -> bool:
    """Whether it has a bound in every half window, and not too many lines."""
    if len(text) <= window:
        return True
    half = window // 2
    if any(not BOUND.search(text, start, start + half) for start in range(0, len(text) - half, half)):
        return False
    return text.count("\n") * len(text) <= MAX_LINE_WORK


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """The text between runs of white space over very many lines that are not empty."""
    start = 0
    for match in WHITE.finditer(text):
        run = match.group().replace("\r\n", "\n")
        if run.count("\n") + run.count("\r") > MAX_WHITE_LINES and len(set(run)) > 1:
            yield start, match.start()
            start = match.end()
    yield start, len(text)


def _windows(text: str, splitter: TextSplitter, window: int) -> Iterator[Span]:
    """What a window cuts off is taken up again by the next one, which begins where its last span did."""
    start = 0
    while start < len(text):
        last = start + window >= len(text)
        found = splitter.chunk_indices(text[start : start + window])
        kept = found if last or len(found) < 2 else found[:-1]
        for inner, piece in kept:
            yield start + inner, piece
        start += window if kept is found else found[-1][0]

"""Lines that run along: what most pages have at the top or bottom, a title or their number, is no text of theirs."""

import re
from collections import Counter
from collections.abc import Sequence

FEWEST_PAGES = 3
"""That have such a line: of fewer it may be there by chance."""
MANY_LINES = 3
"""At an edge, at most."""
LONGEST = 150
"""Characters of such a line."""
NUMBER = re.compile(r"(?<!\d)\d{1,6}(?!\d)")
Form = tuple[str, int | None]


def without_running_lines(pages: Sequence[str]) -> list[str]:
    """The texts of pages, in their order, without the lines that more than half of the left or the right ones have.

    At the same edge, that is: equal, or but for a number that grows with the pages; or all with such a number at the
    begin, or at the end, whatever chapter they name beside it.
    """
    found = list(pages)
    for side in (0, 1):
        for last in (False, True):
            for _ in range(MANY_LINES):
                if not _strip(found, range(side, len(found), 2), last=last):
                    break
    return found


def _strip(pages: list[str], numbers: range, *, last: bool) -> bool:
    """One line at the top, or at the bottom, of the pages of a side; whether there was one."""
    edges = {number: _edge(pages[number], last=last) for number in numbers}
    counted = Counter(form for number, line in edges.items() for form in _forms(line, number))
    running = {form for form, count in counted.items() if count >= FEWEST_PAGES and count * 2 > len(numbers)}
    for number, line in edges.items():
        if running.intersection(_forms(line, number)):
            text = pages[number].strip()
            pages[number] = text[: -len(line)] if last else text[len(line) :]
    return bool(running)


def _edge(text: str, *, last: bool) -> str:
    return text.strip().rpartition("\n")[2] if last else text.strip().partition("\n")[0]


def _forms(line: str, number: int) -> set[Form]:
    """By what a line is known again: as it is; or without one of its numbers, by how far that is from the page's."""
    line = " ".join(line.split())
    if not line or len(line) > LONGEST:
        return set()
    forms: set[Form] = {(line, None)}
    for found in NUMBER.finditer(line):
        ahead, behind = line[: found.start()], line[found.end() :]
        off = int(found[0]) - number
        forms.add((f"{ahead}#{behind}", off))
        if not ahead and behind[:1] in ("", " "):
            forms.add(("#…", off))
        if not behind and ahead[-1:] in ("", " "):
            forms.add(("…#", off))
    return forms

"""Running headers and footers of a PDF's pages: left out where most pages have them, and nothing else is."""

import pytest

from agents.sources.convert.running import without_running_lines

BODIES = [f"{word} is the first sentence here.\nAnd {word} the last." for word in "abcdefghijkl"]


def test_a_title_and_a_number_on_every_page() -> None:
    pages = [f"The Handbook\n{body}\n\nPage {number} of 12\n" for number, body in enumerate(BODIES, 5)]
    assert [page.strip() for page in without_running_lines(pages)] == BODIES


def test_left_and_right_pages_have_their_own_and_chapters_change() -> None:
    heads = [
        f"{number} CHAPTER {number // 4}" if number % 2 else f"{number // 3}.1 A SECTION {number}"
        for number in range(9, 21)
    ]
    pages = [f"{head}\nHandbook\n{body}" for head, body in zip(heads, BODIES, strict=True)]
    pages[0] = BODIES[0]  # a title page
    pages[6] = ""  # one that is empty
    found = [page.strip() for page in without_running_lines(pages)]
    assert found == [*BODIES[:6], "", *BODIES[7:]]


@pytest.mark.parametrize(
    "pages",
    [
        BODIES,
        [],
        ["", "", ""],
        ["The same.\nText.", "The same.\nOther.", "The same.\nMore."],  # too few of a side
        [f"{number}. On {body}" for number, body in enumerate(BODIES, 1)],
        [f"In {2001 + (number * 7) % 5}\n{body}" for number, body in enumerate(BODIES)],
        [f"{'A long sentence. ' * 10}\n{body}" for body in BODIES],
        [f"Here\n{body}" if number < 4 else body for number, body in enumerate(BODIES)],
    ],
)
def test_nothing_else_is_left_out(pages: list[str]) -> None:
    assert without_running_lines(pages) == pages

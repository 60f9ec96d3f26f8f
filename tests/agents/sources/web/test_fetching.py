"""One request: what a header says of time, and where there is no room for a body."""

import asyncio
import os
from pathlib import Path

import pytest

from agents.sources.convert.kinds import HTML
from agents.sources.web.fetching import Answer, Asked, Broken, Client, Fetched, changed_at
from tests.kit.website import page, serving

DATE = "Mon, 30 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("modified", "wanted"),
    [
        ("Fri, 30 Jan 2026 12:00:00 GMT", "2026-01-30T12:00:00Z"),
        ("Sunday, 06-Nov-94 08:49:37 GMT", "1994-11-06T08:49:37Z"),
        ("Mon, 01 Jan 0001 00:00:00 GMT", None),
        ("Mon, 01 Jan 0070 00:00:00 GMT", None),
        (DATE, None),
        ("soon", None),
        (None, None),
    ],
)
def test_when_a_page_was_changed(modified: str | None, wanted: str | None) -> None:
    assert changed_at(modified, DATE) == wanted


@pytest.mark.parametrize("told", ["text/html;charset*", 'text/html; charset="', "text/html; charset=x\u00ff"])
def test_a_strange_type_is_what_can_be_read_of_it(told: str, tmp_path: Path) -> None:
    async def ask() -> Answer:
        client = Client(contact=None, allow_private=True)
        try:
            return await client.get(Asked(url=f"{site.url}/"), tmp_path / "body")
        finally:
            await client.close()

    with serving() as site:
        site.pages["/"] = page("Title", "Text.")
        site.headers["/"] = {"Content-Type": told}
        answer = asyncio.run(ask())
    assert isinstance(answer, Fetched)
    assert answer.kind == HTML


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_no_room_for_a_body_is_said_so() -> None:
    async def ask() -> Answer:
        client = Client(contact=None, allow_private=True)
        try:
            return await client.get(Asked(url=f"{site.url}/"), Path("/dev/full"))
        finally:
            await client.close()

    with serving() as site:
        site.pages["/"] = page("Title", "Text.")
        answer = asyncio.run(ask())
    assert isinstance(answer, Broken)
    assert "no copy can be made in /dev (No space left on device): make room there" in answer.reason
    assert not answer.passes

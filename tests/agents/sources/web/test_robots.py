"""robots.txt as RFC 9309 has it, however it is answered."""

import asyncio
from pathlib import Path

import pytest

from agents.sources.web.fetching import Answer, Asked, Broken, Busy, Denied, Fetched, Missing, Moved
from agents.sources.web.robots import MANY_HOSTS, Robots

TEXT = """\
User-agent: *
Disallow: /

User-agent: penstock
Disallow: /private/
Allow: /private/open
Disallow: /*.tmp$
Crawl-delay: 2.5

Sitemap: https://h/map.xml
"""


def asked(tmp_path: Path, answers: dict[str, Answer], text: bytes = b"") -> tuple[Robots, list[str]]:
    seen: list[str] = []

    async def get(one: Asked, path: Path) -> Answer:
        seen.append(one.url)
        path.write_bytes(text)  # noqa: ASYNC240 - small
        return answers[one.url]

    return Robots(get, tmp_path / "robots"), seen


FETCHED = Fetched(kind="", body="x")


def test_rules_are_ours_by_name(tmp_path: Path) -> None:
    robots, seen = asked(tmp_path, {"https://h/robots.txt": FETCHED}, TEXT.encode())
    rules = asyncio.run(robots.of("https://h"))
    allowed = ("/", "/private/x", "/private/open/x", "/x.tmp", "/x.tmp?y")
    assert [rules.allow(f"https://h{path}") for path in allowed] == [True, False, True, False, True]
    assert (rules.delay_s, rules.sitemaps) == (2.5, ("https://h/map.xml",))
    asyncio.run(robots.of("https://h"))
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("answer", "allows"),
    [
        (Missing(404), True),
        (Denied(403), True),
        (Busy(503, None), False),
        (Busy(429, 1.0), False),
        (Broken("it answers 500", passes=True), False),
        (Broken("no route", passes=True), False),
    ],
)
def test_none_allows_all_and_no_answer_nothing(tmp_path: Path, answer: Answer, allows: bool) -> None:
    rules = asyncio.run(asked(tmp_path, {"https://h/robots.txt": answer})[0].of("https://h"))
    assert (rules.allow("https://h/x"), rules.unreachable is None) == (allows, allows)


def test_redirects_are_followed_to_another_host_and_not_for_ever(tmp_path: Path) -> None:
    answers: dict[str, Answer] = {"https://h/robots.txt": Moved("//w/robots.txt"), "https://w/robots.txt": FETCHED}
    rules = asyncio.run(asked(tmp_path, answers, TEXT.encode())[0].of("https://h"))
    assert not rules.allow("https://h/private/x")
    robots, seen = asked(tmp_path, {"https://h/robots.txt": Moved("/robots.txt")})
    assert asyncio.run(robots.of("https://h")).allow("https://h/x")
    assert len(seen) == 6


def test_few_hosts_are_remembered(tmp_path: Path) -> None:
    answers: dict[str, Answer] = {f"https://h{n}/robots.txt": Missing(404) for n in range(MANY_HOSTS + 1)}
    robots, seen = asked(tmp_path, answers)

    async def all_of_them() -> None:
        for number in (*range(MANY_HOSTS + 1), MANY_HOSTS, 0):
            await robots.of(f"https://h{number}")

    asyncio.run(all_of_them())
    assert len(seen) == MANY_HOSTS + 2

"""`--include` and `--exclude`: what a pattern matches, by an own account of it, and what is listed then."""

import asyncio
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.sources import Failure, Listed, PassedOver
from agents.sources.files import Files
from agents.sources.patterns import Pattern, patterns
from agents.sources.reading import Ids
from streams.errors import ConfigError

names = st.text(st.sampled_from("ab.[*ü \n"), max_size=3)
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
globs = st.lists(st.one_of(st.just("**"), st.text(st.sampled_from("ab*?."), min_size=1, max_size=3)), min_size=1)


def expected(wanted: list[str], path: list[str]) -> bool:
    """The rules as they are documented, by recursion, of a pattern that does not end with `**`."""
    if not wanted:
        return not path
    first, *rest = wanted
    if first == "**":
        return expected(rest, path) or bool(path and expected(wanted, path[1:]))
    name = "".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in first)
    return bool(path and re.fullmatch(name, path[0], re.DOTALL)) and expected(rest, path[1:])


def ends_well(wanted: list[str], path: list[str]) -> bool:
    """At the end `**` is at least a name, and several in a row are one."""
    while wanted[-2:] == ["**", "**"]:
        wanted = wanted[:-1]
    if wanted[-1] == "**":
        return any(expected(wanted[:-1], path[:count]) for count in range(len(path)))
    return expected(wanted, path)


@given(globs, paths)
def test_a_pattern_matches_folder_by_folder(wanted: list[str], path: str) -> None:
    glob = "/".join(wanted)
    found = path.split("/")
    if len(wanted) == 1:
        assert Pattern(glob).matches(path) == ends_well(["**", *wanted], found)
    assert Pattern(f"/{glob}").matches(path) == ends_well(wanted, found)
    below = wanted if len(wanted) > 1 else ["**", *wanted]
    assert Pattern(f"{glob}/").matches(path) == ends_well([*below, "**"], found)


@given(globs, paths, names)
def test_nothing_that_is_taken_is_in_a_folder_that_is_not_entered(wanted: list[str], folder: str, name: str) -> None:
    found = patterns((), ["/".join(wanted)])
    assert found.enters(folder) or not found.takes(f"{folder}/{name}")


@pytest.mark.parametrize(
    ("glob", "matches", "others"),
    [
        ("*.md", ["a.md", "x/y/a.md", ".md"], ["a.mdx", "a.md/b", "A.MD"]),
        ("/*.md", ["a.md"], ["x/a.md"]),
        ("docs/*.md", ["docs/a.md"], ["x/docs/a.md", "docs/x/a.md"]),
        ("docs/**", ["docs/a", "docs/x/a", "docs//a", "docs/"], ["docs", "x/docs/a"]),
        ("drafts/", ["drafts/a", "x/drafts/y/a"], ["drafts", "mydrafts/a"]),
        ("**/a/**/b", ["a/b", "x/a/b", "a/x/y/b", "a//b"], ["a", "b", "ab"]),
        ("[a-c]?.txt", ["b1.txt", "x/c..txt"], ["d1.txt", "b.txt"]),
        ("[!a].txt", ["b.txt"], ["a.txt"]),
        ("ümläut *.txt", ["ümläut ß.txt"], ["umlaut b.txt"]),
        ("[[].txt", ["[.txt"], [".txt"]),
    ],
)
def test_what_patterns_are_for(glob: str, matches: list[str], others: list[str]) -> None:
    assert [path for path in matches + others if Pattern(glob).matches(path)] == matches


def test_exclude_wins_over_include() -> None:
    found = patterns(["*.md", "*.txt"], ["drafts/", "x.md"])
    taken = [path for path in ("a.md", "b.txt", "c.pdf", "drafts/a.md", "y/x.md") if found.takes(path)]
    assert taken == ["a.md", "b.txt"]
    assert patterns((), ()).takes("anything")


def test_a_pattern_of_nothing_is_a_mistake() -> None:
    for glob in ("", "/", "//"):
        with pytest.raises(ConfigError, match="a pattern such as"):
            Pattern(glob)


def test_a_pattern_that_goes_back_and_forth_comes_to_an_end() -> None:
    """Naive ones take longer than the universe is old."""
    assert not Pattern("**/".join(["*a*a*a*a*a*b/"] * 12)).matches("/".join(["a" * 200] * 40))


def test_a_folder_that_is_excluded_is_not_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.md", "drafts/b.md", "x/drafts/c.md", "x/d.md", "x/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "drafts" / "broken.md").symlink_to(tmp_path / "nowhere")
    entered, scandir = list[str](), os.scandir

    def noted(path: str) -> Iterator[os.DirEntry[str]]:
        entered.append(Path(path).name)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noted)

    async def collect() -> list[Listed | Failure | PassedOver]:
        return [found async for found in source.listing()]

    source = Files(tmp_path, Ids(), patterns(["*.md"], ["drafts/"]))
    found = asyncio.run(collect())
    assert [row.id for row in found if isinstance(row, Listed)] == [
        (tmp_path / name).as_uri() for name in ("a.md", "x/d.md")
    ]
    assert [row for row in found if not isinstance(row, Listed)] == [PassedOver(kind="excluded")] * 3
    assert "drafts" not in entered
    gone = (tmp_path / "drafts" / "gone.md").as_uri()
    assert (source.excludes(gone), source.excludes((tmp_path / "x" / "gone.md").as_uri())) == (True, False)


@pytest.mark.parametrize(
    ("glob", "part"),
    [
        ("[", "the `[` in '[' has no `]` behind it"),
        ("docs/[!]", "the `[` in '[!]' has no `]`"),
        ("[]", "the `[` in '[]' has no `]`"),
        ("[a/b]", "the `[` in '[a' has no `]`"),
        ("x[z-a].md", "no name matches 'x[z-a].md': a range"),
    ],
)
def test_a_pattern_that_nothing_can_match_is_refused(glob: str, part: str) -> None:
    with pytest.raises(ConfigError) as told:
        patterns([glob], [])
    assert part in str(told.value)
    assert glob in str(told.value)


def test_a_bracket_stands_for_itself_in_brackets() -> None:
    which = patterns(["a[[]b].md", "[]].md", "[!]].txt"], [])
    assert [name for name in ("a[b].md", "].md", "x.txt", "].txt") if which.takes(name)] == ["a[b].md", "].md", "x.txt"]

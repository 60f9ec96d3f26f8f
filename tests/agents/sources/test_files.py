"""`penstock ingest files`: what is listed and read, which ids, and mistakes by file and line."""

import asyncio
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from agents.sources import Failure, Listed, Outgoing, PassedOver, reading
from agents.sources.files import Files, file_sources
from agents.sources.pydocs import read_modules
from agents.sources.reading import Ids
from streams.errors import ConfigError
from streams.record import Document, Record, decode

BY_URI = Ids()


def listing(path: Path, ids: Ids = BY_URI) -> list[Listed | Failure | PassedOver]:
    """What is there."""

    async def collect() -> list[Listed | Failure | PassedOver]:
        return [found async for found in Files(path, ids).listing()]

    return asyncio.run(collect())


def read(path: Path, ids: Ids = BY_URI) -> list[Outgoing | Failure]:
    """The documents of a folder, or a file."""

    async def collect() -> list[Outgoing | Failure]:
        source = Files(path, ids)
        try:
            return [
                found
                async for listed in source.listing()
                if isinstance(listed, Listed)
                async for found in source.fetch(listed)
            ]
        finally:
            await source.close()

    return asyncio.run(collect())


def documents(path: Path, ids: Ids = BY_URI) -> list[Outgoing]:
    """The same, where none fails."""
    found = [row for row in read(path, ids) if isinstance(row, Outgoing)]
    assert len(found) == len(read(path, ids))
    return found


def test_folders_are_searched_and_ids_are_uris(tmp_path: Path) -> None:
    (tmp_path / "docs" / "sub").mkdir(parents=True)
    (tmp_path / "docs" / "a ä#1.md").write_text("intro\n\n# The Title\n\nbody")
    (tmp_path / "docs" / "sub" / "b.txt").write_text("plain")
    (tmp_path / "docs" / "image.png").write_bytes(b"\x89PNG")
    folder = f"{(tmp_path / 'docs').as_uri()}/"
    assert Files(tmp_path / "docs", Ids()).name == folder
    assert [row.id if isinstance(row, Listed) else row for row in listing(tmp_path / "docs")] == [
        f"{folder}a%20%C3%A4%231.md",
        PassedOver(kind=".png"),
        f"{folder}sub/b.txt",
    ]
    markdown, text = documents(tmp_path / "docs")
    body = orjson.loads(markdown.value or b"")
    assert body == {
        "text": "intro\n\n# The Title\n\nbody",
        "title": "The Title",
        "url": f"{folder}a%20%C3%A4%231.md",
        "sections": [{"start": 7, "end": 24, "heading": "The Title"}],
    }
    assert [markdown.key, text.key] == [f"{folder}a%20%C3%A4%231.md".encode(), f"{folder}sub/b.txt".encode()]
    relative = documents(tmp_path / "docs", Ids(by="relative", prefix="p:"))
    assert [row.key.decode() for row in relative] == ["p:a ä#1.md", "p:sub/b.txt"]
    assert [row.key for row in documents(tmp_path / "docs" / "sub" / "b.txt", Ids(by="relative"))] == [b"b.txt"]


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"id": "1", "text": "one"}\n\n{"id": "2", "chunks": [{"text": "two"}]}\n')
    assert [document.key for document in documents(path)] == [b"1", b"2"]
    one, _ = documents(path, Ids(prefix="p:"))
    assert (one.key, orjson.loads(one.value or b"")["id"]) == (b"p:1", "p:1")


@pytest.mark.parametrize(
    ("name", "begin", "end"),
    [
        ("a.jsonl.gz", b'{"id": "a", "text": "A."}', b""),
        ("a.json.gz", b'[{"id": "a", "text": "A."}', b"]"),
    ],
)
def test_all_else_goes_on_while_a_file_is_read_that_has_nothing_more(
    tmp_path: Path, name: str, begin: bytes, end: bytes
) -> None:
    """Of some MB, packed into some KB, as it may be of any length: a signal would be heard."""
    (tmp_path / name).write_bytes(gzip.compress(begin + b"\n" * 4 * 1024**2 + end, 1))

    async def count() -> int:
        turns, over = 0, asyncio.Event()

        async def take() -> None:
            source = Files(tmp_path, BY_URI)
            async for listed in source.listing():
                assert isinstance(listed, Listed)
                assert len([found async for found in source.fetch(listed)]) == 1
            await source.close()
            over.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(take())
            while not over.is_set():
                turns += 1
                await asyncio.sleep(0)
        return turns

    assert asyncio.run(count()) > 3


def test_json_is_a_document_or_an_array_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"id": "a", "text": "A."}')
    (tmp_path / "b.json").write_text('\ufeff{"text": "B."}\n')
    (tmp_path / "c.json.gz").write_bytes(
        gzip.compress(b'[\n  {"id": "1", "text": "One."},\n  {"id": "2", "text": "[,]"}\n]')
    )
    (tmp_path / "d.json").write_text("")
    (tmp_path / "e.JSON").write_text("[]")
    found = documents(tmp_path, Ids(by="relative", prefix="p:"))
    assert [row.key for row in found] == [b"p:a", b"p:b.json", b"p:1", b"p:2"]
    assert [row.origin.removeprefix(f"{tmp_path}/") for row in found] == [
        "a.json",
        "b.json",
        "c.json.gz[0]",
        "c.json.gz[1]",
    ]
    assert [orjson.loads(row.value or b"")["text"] for row in found] == ["A.", "B.", "One.", "[,]"]


@pytest.mark.parametrize(
    ("content", "keys", "part"),
    [
        ('{"name": "left-pad", "version": "1.0"}', [], "a.json: a document is expected, an object with `text`"),
        ('[{"name": "x"}, {"id": "good", "text": "Good."}]', [], "`[source.mapping]`; `--exclude '*.json'`"),
        ("[1, 2, 3]", [], "a.json[0]: a document is expected"),
        ('"text"', [], "a.json: it begins with neither `[` nor `{`: a document is expected"),
        ('{"id": "1", "text": "a"}\n{"id": "2", "text": "b"}\n', [], "(JSON lines have a name that ends with .jsonl)"),
        ('[{"id": "good", "text": "Good."}, {"id": "cut", "te', [b"good"], "a.json: it ends in the midst of it"),
        (
            '[{"id": "1", "text": "a"}, {"text": "b"}, {"id": "3", "text": "c"}]',
            [b"1", b"3"],
            "a.json[1]: an object with",
        ),
        ('[{"id": "1", "text": "a"}, {"id": "2", "text": b}, {"id": "3"}]', [b"1"], "a.json[1]: not JSON in UTF-8"),
        ('{"text": "a", "titel": "t"}', [], "did you mean `title`"),
        (
            '[{"id": "1", "text": "' + "a" * (16 * 1024**2) + '"}, {"id": "2", "text": "b"}]',
            [b"2"],
            "a.json[0]: longer",
        ),
    ],
)
def test_json_of_something_else_says_what_is_expected(
    tmp_path: Path, content: str, keys: list[bytes], part: str
) -> None:
    (tmp_path / "a.json").write_text(content)
    found = read(tmp_path)
    assert [row.key for row in found if isinstance(row, Outgoing)] == keys
    first = next(row for row in found if isinstance(row, Failure))
    assert part in f"{first.origin.removeprefix(f'{tmp_path}/')}: {first.reason}"


def test_lines_end_with_a_line_feed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    texts = ["a\u2028b\u2029c\x85d", "\u00e9" * 100_000, "\ufeffmark", "last"]
    lines = [json.dumps({"id": str(n), "text": text}, ensure_ascii=False) for n, text in enumerate(texts)]
    for start, end in (("\ufeff", "\r\n"), ("", "\n"), ("\n  \r\n", "\n\n")):
        path.write_bytes((start + end.join(lines)).encode())
        found = documents(path)
        assert [orjson.loads(document.value or b"")["text"] for document in found] == texts
        assert [document.key for document in found] == [b"0", b"1", b"2", b"3"]
    path.write_bytes(b"")
    assert read(path) == []


def test_a_text_begins_after_its_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"\xef\xbb\xbf# T\xe2\x80\xa8itle\r\nbody\r")
    (found,) = documents(tmp_path / "a.md")
    body = orjson.loads(found.value or b"")
    assert (body["title"], body["text"]) == ("T\u2028itle", "# T\u2028itle\nbody\n")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (b'{"id": "1", "text": "a"}\0\n', "corpus.jsonl:1: not JSON"),
        (b'{"id": "1", "text": "\xff"}\n', "corpus.jsonl:1: not JSON"),
        (b'{"id": "1", "text": "a"}\n\xef\xbb\xbf{}', "corpus.jsonl:2: not JSON"),
        (b'{"id": "1", "metadata": ' + b"[" * 5000, "corpus.jsonl:1: not JSON"),
        (b" " * (16 * 1024**2 + 1), "corpus.jsonl:1: longer than 16777216 bytes"),
        (b"{", "corpus.jsonl:1: not JSON"),
        (b'{"text": "a"}', "corpus.jsonl:1: an object with a string `id`"),
        (b'{"id": "1", "text": "a", "titel": "t"}', "did you mean `title`"),
        (b'{"id": "a", "text": "caf\xe9"}', "not JSON in UTF-8: invalid continuation byte at byte 24"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_read(tmp_path: Path, line: bytes, part: str) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(line.rstrip(b"\n") + b'\n{"id": "good", "text": "Good."}\n')
    *others, last = read(path)
    (failure,) = [row for row in others if isinstance(row, Failure)]
    assert part in f"{failure.origin}: {failure.reason}"
    assert isinstance(last, Outgoing)
    assert last.key == b"good"


def test_a_kind_whose_library_is_missing_is_passed_over_with_what_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"id": "b", "text": "B."}\n'))
    monkeypatch.setattr(reading, "is_there", lambda kind: kind != ".pdf")
    option = ".pdf needs pypdfium2: `pip install '.[documents]'` in the checkout brings it"
    assert listing(tmp_path)[0] == PassedOver(kind=".pdf", option=option)
    with pytest.raises(ConfigError, match="brings it"):
        file_sources([tmp_path / "a.pdf"], Ids())
    assert [row.key for row in documents(tmp_path)] == [b"b"]


def test_a_name_that_is_not_utf_8_has_a_uri_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("b")
    assert [row.key.rpartition(b"/")[2] for row in read(tmp_path) if isinstance(row, Outgoing)] == [
        b"a.txt",
        b"caf%E9.txt",
    ]
    (failure,) = [row for row in read(tmp_path, Ids(by="relative")) if isinstance(row, Failure)]
    assert failure.reason == "its name is not UTF-8: rename it"


def test_what_cannot_be_listed_is_a_failure_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("a")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.txt")
    found = listing(tmp_path)
    assert not [row for row in found if isinstance(row, Failure)], "a link that leads nowhere is known by its name"
    assert {Path(row.origin).name: row.reason for row in read(tmp_path) if isinstance(row, Failure)} == {
        "broken.txt": "cannot be read: No such file or directory",
        "self.txt": "cannot be read: Too many levels of symbolic links",
    }
    assert [row for row in found if isinstance(row, PassedOver)] == [PassedOver(kind="no regular file")]
    scandir = os.scandir

    def denied(path: str) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)  # root may read everything
    assert Failure(origin=str(tmp_path / "sub"), reason="cannot be read: Permission denied") in listing(tmp_path)


def test_a_path_that_cannot_be_looked_at_is_named(tmp_path: Path) -> None:
    for name, why in (("a" * 300, "File name too long"), ("a\0b", "null byte")):
        with pytest.raises(ConfigError, match=f"cannot be read: .*{why}"):
            file_sources([tmp_path / name], Ids())
    with pytest.raises(ConfigError, match="does not exist"):
        file_sources([tmp_path / "nothing"], Ids())
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"x\.png: what is read: \.jsonl"):
        file_sources([tmp_path / "x.png"], Ids())
    assert len(file_sources([tmp_path, tmp_path / ".", tmp_path], Ids())) == 1


def test_a_file_that_is_gone_or_no_text_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "binary.txt").write_bytes(b"a\0b")
    assert read(tmp_path) == [Failure(origin=str(tmp_path / "binary.txt"), reason="no text: it has NUL characters")]

    async def gone() -> list[Outgoing | Failure]:
        listed = Listed(id=(tmp_path / "gone.jsonl").as_uri(), tag="")
        return [found async for found in Files(tmp_path, Ids()).fetch(listed)]

    assert asyncio.run(gone()) == [
        Failure(origin=str(tmp_path / "gone.jsonl"), reason="cannot be read: No such file or directory")
    ]


def test_the_standard_librarys_documentation_is_in_the_wire_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_PASSWORD", "of-this-machine")  # `os.environ` is a default in cgi, and data of os
    modules = list(read_modules())
    assert len(modules) > 150
    for outgoing in modules:
        record = Record(topic="", partition=0, offset=0, timestamp_ms=0, key=outgoing.key, value=outgoing.value)
        document = decode(record)
        assert isinstance(document, Document), document
        assert document.url
        assert document.title
        assert " at 0x" not in (document.text or "")
        assert "\nDATA\n" not in (document.text or "")
        assert "of-this-machine" not in (document.text or "")


def test_a_lock_and_what_went_meanwhile_hold_nothing_up_and_a_link_is_followed_anew(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name)
    (tmp_path / "one" / ".#a.txt").symlink_to("me@host.1:2")
    (tmp_path / "one" / "~$a.docx").write_bytes(b"me")
    link = tmp_path / "current"
    link.symlink_to("one")
    source = Files(link, BY_URI)

    async def texts() -> list[tuple[str, str]]:
        found = [row async for row in source.listing()]
        assert not [row for row in found if isinstance(row, Failure)]
        return [
            (row.key.decode().rpartition("/")[2], orjson.loads(row.value or b"")["text"])
            for listed in found
            if isinstance(listed, Listed)
            async for row in source.fetch(listed)
            if isinstance(row, Outgoing)
        ]

    async def scenario() -> None:
        assert source.name.endswith("/current/")
        assert await texts() == [("a.txt", "one")]
        link.unlink()
        link.symlink_to("two")
        assert await texts() == [("a.txt", "two")]
        await source.close()

    asyncio.run(scenario())

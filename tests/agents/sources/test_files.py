"""`penstock ingest files`: what is read, which ids, and mistakes by file and line."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from agents.sources.files import find_files, read_file
from agents.sources.pydocs import read_modules
from streams.errors import ConfigError
from streams.record import Document, Record, decode


def test_folders_are_searched_and_ids_are_relative_paths(tmp_path: Path) -> None:
    (tmp_path / "docs" / "sub").mkdir(parents=True)
    (tmp_path / "docs" / "a.md").write_text("intro\n\n# The Title\n\nbody")
    (tmp_path / "docs" / "sub" / "b.txt").write_text("plain")
    (tmp_path / "docs" / "image.png").write_bytes(b"\x89PNG")
    found = find_files([tmp_path / "docs"])
    assert [name for _, name in found] == ["a.md", "sub/b.txt"]
    (markdown,) = read_file(*found[0])
    body = orjson.loads(markdown.value or b"")
    assert markdown.key == b"a.md"
    assert body["title"] == "The Title"
    assert body["url"].startswith("file:///")


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"id": "1", "text": "one"}\n\n{"id": "2", "chunks": [{"text": "two"}]}\n')
    assert [document.key for document in read_file(path, "corpus.jsonl")] == [b"1", b"2"]


def test_lines_end_with_a_line_feed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    texts = ["a\u2028b\u2029c\x85d", "\u00e9" * 100_000, "\ufeffmark", "last"]
    lines = [json.dumps({"id": str(n), "text": text}, ensure_ascii=False) for n, text in enumerate(texts)]
    for start, end in (("\ufeff", "\r\n"), ("", "\n"), ("\n  \r\n", "\n\n")):
        path.write_bytes((start + end.join(lines)).encode())
        found = list(read_file(path, "corpus.jsonl"))
        assert [orjson.loads(document.value or b"")["text"] for document in found] == texts
        assert [document.key for document in found] == [b"0", b"1", b"2", b"3"]
    path.write_bytes(b"")
    assert list(read_file(path, "corpus.jsonl")) == []


def test_a_text_begins_after_its_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"\xef\xbb\xbf# T\xe2\x80\xa8itle\r\nbody\r")
    (found,) = read_file(tmp_path / "a.md", "a.md")
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
    ],
)
def test_bytes_that_are_no_json_lines(tmp_path: Path, line: bytes, part: str) -> None:
    assert_named(tmp_path, line, part)


def assert_named(folder: Path, line: bytes, part: str) -> None:
    """A file of this content is refused with these words."""
    path = folder / "corpus.jsonl"
    path.write_bytes(line)
    with pytest.raises(ConfigError) as caught:
        list(read_file(path, "corpus.jsonl"))
    assert part in str(caught.value)


def test_a_name_that_is_not_utf_8_is_refused_before_anything_is_published(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("b")
    with pytest.raises(ConfigError, match="its name is not UTF-8"):
        find_files([tmp_path])


def test_folders_that_lead_in_a_circle_or_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("a")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
    assert [name for _, name in find_files([tmp_path])] == ["sub/a.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="nothing to publish"):
        find_files([tmp_path / "empty"])

    def denied(path: str) -> Iterator[object]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", denied)  # root may read everything
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        find_files([tmp_path])


def test_a_path_that_cannot_be_looked_at_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, why in (("a" * 300, "File name too long"), ("a\0b", "null byte")):
        with pytest.raises(ConfigError, match=f"cannot be read: .*{why}"):
            find_files([tmp_path / name])
    (tmp_path / "a.txt").write_text("a")

    def denied(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(Path, "is_file", denied)  # as in a folder that may be listed, and not entered
    with pytest.raises(ConfigError, match=r"a\.txt cannot be read: Permission denied"):
        find_files([tmp_path])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.jsonl cannot be read: No such file"):
        list(read_file(tmp_path / "gone.jsonl", "gone.jsonl"))
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.txt cannot be read: Is a directory"):
        list(read_file(tmp_path / "folder.txt", "folder.txt"))


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("{", "corpus.jsonl:1: not JSON"),
        ('{"text": "a"}', "corpus.jsonl:1: an object with a string `id`"),
        ('{"id": "1", "text": "a", "titel": "t"}', "did you mean `title`"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, part: str) -> None:
    assert_named(tmp_path, line.encode(), part)


def test_a_line_that_is_not_utf8_names_the_byte(tmp_path: Path) -> None:
    assert_named(tmp_path, b'{"id": "a", "text": "caf\xe9"}', "not JSON in UTF-8: invalid continuation byte at byte 24")


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        find_files([tmp_path / "nothing"])
    (tmp_path / "x.pdf").write_bytes(b"%PDF")
    with pytest.raises(ConfigError, match="only .txt"):
        find_files([tmp_path / "x.pdf"])
    (tmp_path / "latin.txt").write_bytes(b"\xe9t\xe9")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        list(read_file(tmp_path / "latin.txt", "latin.txt"))


def test_two_files_with_one_id_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.txt").write_text(name)
    with pytest.raises(ConfigError, match="would both become the document same.txt"):
        find_files([tmp_path / "a", tmp_path / "b"])


def test_the_standard_librarys_documentation_is_in_the_wire_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_PASSWORD", "of-this-machine")  # `os.environ` is a default in cgi, and data of os
    documents = list(read_modules())
    assert len(documents) > 150
    for outgoing in documents:
        record = Record(topic="", partition=0, offset=0, timestamp_ms=0, key=outgoing.key, value=outgoing.value)
        document = decode(record)
        assert isinstance(document, Document), document
        assert document.url
        assert document.title
        assert " at 0x" not in (document.text or "")
        assert "\nDATA\n" not in (document.text or "")
        assert "of-this-machine" not in (document.text or "")

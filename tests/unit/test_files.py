"""`penstock ingest files`: what is read, which ids, and mistakes by file and line."""

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


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("{", "corpus.jsonl:1: not JSON"),
        ('{"text": "a"}', "corpus.jsonl:1: an object with a string `id`"),
        ('{"id": "1", "text": "a", "titel": "t"}', "did you mean `title`"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, part: str) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text(line)
    with pytest.raises(ConfigError) as caught:
        list(read_file(path, "corpus.jsonl"))
    assert part in str(caught.value)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        find_files([tmp_path / "nothing"])
    (tmp_path / "x.pdf").write_bytes(b"%PDF")
    with pytest.raises(ConfigError, match="only .txt"):
        find_files([tmp_path / "x.pdf"])
    (tmp_path / "latin.txt").write_bytes(b"\xe9t\xe9")
    with pytest.raises(ConfigError, match="as UTF-8"):
        list(read_file(tmp_path / "latin.txt", "latin.txt"))


def test_two_files_with_one_id_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.txt").write_text(name)
    with pytest.raises(ConfigError, match="would both become the document same.txt"):
        find_files([tmp_path / "a", tmp_path / "b"])


def test_the_standard_librarys_documentation_is_in_the_wire_format() -> None:
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

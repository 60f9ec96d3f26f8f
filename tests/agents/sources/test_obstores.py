"""`penstock ingest gcs` and `azure`, against servers of their protocols. Passed over where those are not there."""

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from agents.sources import Failure, Listed, Outgoing, PassedOver, obstores
from agents.sources.objects import Objects
from agents.sources.obstores import Container, azure_sources, gcs_sources
from agents.sources.patterns import Patterns, patterns
from agents.sources.reading import Ids
from streams.errors import AwayError, ConfigError, PenstockError
from tests.kit.stores import ACCOUNT, Server, serving

EXACT = ["with space.txt", "ümläut.txt", "+plus&=%20.txt", "pct%2Fx.txt", "#hash?.txt", "~t*[x]{y}|^`.txt", "d/e/f.txt"]
UNNAMED = ["a//b.txt", "x/../c.txt", "x/./d.txt", "tab\there.txt", "new\nline.txt"]
"""Keys that are legal, and cannot be written as the client's paths."""


@pytest.fixture(scope="module", params=["gcs", "azure"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One of each kind for all tests here, with logins where the client looks for them."""
    with pytest.MonkeyPatch.context() as patch, serving(request.param, tmp_path_factory.mktemp(request.param)) as found:
        for name, value in found.login.items():
            patch.setenv(name, value)
        yield found


def read(source: Objects) -> tuple[list[Listed | Failure | PassedOver], list[Outgoing | Failure | Listed]]:
    """All of it."""

    async def collect() -> tuple[list[Listed | Failure | PassedOver], list[Outgoing | Failure | Listed]]:
        rows = [row async for row in source.listing()]
        found = [one for row in rows if isinstance(row, Listed) async for one in source.fetch(row)]
        await source.close()
        return rows, found

    return asyncio.run(collect())


def test_keys_are_taken_as_they_are(server: Server) -> None:
    server.make("exact")
    for key in EXACT:
        server.put("exact", key, f"Text of {key}".encode())
    source = server.of("exact")
    rows, found = read(source)
    assert {row.id for row in rows if isinstance(row, Listed)} == {f"{server.scheme}exact/{key}" for key in EXACT}
    documents = {row.key.decode(): orjson.loads(row.value or b"")["text"] for row in found if isinstance(row, Outgoing)}
    assert documents == {f"{server.scheme}exact/{key}": f"Text of {key}" for key in EXACT}
    tags = {row.id: row.tag for row in rows if isinstance(row, Listed)}
    assert tags == {row.id: row.tag for row in found if isinstance(row, Listed)}, "of a listing, and of what was read"
    server.put("exact", EXACT[0], b"Another")
    again = {row.id: row.tag for row in read(source)[0] if isinstance(row, Listed)}
    assert {name for name, tag in again.items() if tags[name] != tag} == {f"{server.scheme}exact/{EXACT[0]}"}


@pytest.mark.parametrize("key", UNNAMED)
def test_a_key_that_cannot_be_written_is_named_and_holds_up_its_folder_alone(server: Server, key: str) -> None:
    bucket = f"odd{UNNAMED.index(key)}"
    server.make(bucket)
    for name in ("good/a.txt", f"bad/{key}", "good/sub/b.txt", "c.txt"):
        server.put(bucket, name, b"text")
    rows, found = read(server.of(bucket))
    (failure,) = {row for row in rows if isinstance(row, Failure)}
    assert f"bad/{key}" in failure.reason
    assert "rename that object" in failure.reason
    listed = {row.id.removeprefix(f"{server.scheme}{bucket}/") for row in rows if isinstance(row, Listed)}
    assert listed == {"good/a.txt", "good/sub/b.txt", "c.txt"}
    assert sum(isinstance(row, Outgoing) for row in found) >= 3


def test_a_slash_at_the_beginning_is_no_other_object(server: Server) -> None:
    server.make("slashes")
    server.put("slashes", "/lead.txt", b"text")
    server.put("slashes", "folder/", b"")
    rows, found = read(server.of("slashes"))
    assert [row for row in rows if isinstance(row, PassedOver)] == [PassedOver(kind="without a suffix")]
    (failure,) = found
    assert isinstance(failure, Failure)
    assert "lead.txt: there is no such object, or its name is one that the client cannot write" in failure.reason


def test_prefixes_patterns_and_objects_that_are_too_large(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.make("kinds")
    for key in ("docs/a.md", "docs/b.txt", "docs/drafts/c.md", "docsother/d.md", "e.md"):
        server.put("kinds", key, b"# Title\n\ntext")

    def keys(uri: str, *which: list[str]) -> list[str]:
        rows, _ = read(server.of(uri, which=patterns(*which) if which else Patterns()))
        return sorted(row.id.partition("kinds/")[2] for row in rows if isinstance(row, Listed))

    assert keys("kinds/docs/") == ["docs/a.md", "docs/b.txt", "docs/drafts/c.md"]
    assert keys("kinds/docs") == ["docs/a.md", "docs/b.txt", "docs/drafts/c.md", "docsother/d.md"]
    assert keys("kinds/docs/d") == ["docs/drafts/c.md"]
    assert keys("kinds", ["*.md"], ["drafts/"]) == ["docs/a.md", "docsother/d.md", "e.md"]
    assert keys("kinds/none/") == []
    monkeypatch.setattr("agents.sources.objects.LARGEST_OBJECT", 3)
    _, (failure,) = read(server.of("kinds/docs/a"))
    assert isinstance(failure, Failure)
    assert failure.reason == "13 bytes are more than 3: divide it"


def test_an_object_of_many_parts_comes_whole(server: Server, tmp_path: Path) -> None:
    body = b"".join(b"%07d\n" % number for number in range(700_000))
    server.make("large")
    server.put("large", "a.txt", body)
    source = server.of("large")

    async def copy() -> None:
        store = source._store
        assert isinstance(store, Container)
        found = await store.read("a.txt", tmp_path / "copy", len(body))
        assert (found.size, (tmp_path / "copy").read_bytes() == body) == (len(body), True)
        assert await store.look("a.txt") == found
        assert await store.look("b.txt") is None

    asyncio.run(copy())


def test_mistakes_are_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for uri in ("handbook", server.scheme, "s3://a/b"):
        with pytest.raises(ConfigError, match=f"{server.scheme}(BUCKET|CONTAINER)"):
            gcs_sources([uri], Ids(), Patterns(), endpoint=None) if server.kind == "gcs" else azure_sources(
                [uri], Ids(), Patterns(), account=ACCOUNT, endpoint=None
            )
    with pytest.raises(ConfigError, match="cannot list below a folder without a name"):
        server.of("a//b/")
    if server.kind == "azure":  # the other one answers with 500
        with pytest.raises(PenstockError, match="none/: there is no such bucket, or container"):
            read(server.of("none"))
    monkeypatch.setattr(obstores, "ATTEMPTS", 1)
    away = Server(server.kind, "http://127.0.0.1:1")
    with pytest.raises(AwayError, match="cannot be reached"):
        read(away.of("none"))
    if server.kind == "azure":
        with pytest.raises(ConfigError, match="name the account"):
            azure_sources(["az://a"], Ids(), Patterns(), account=None, endpoint=None)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"another").decode())
        with pytest.raises(ConfigError, match="set AZURE_STORAGE_ACCOUNT_KEY") as told:
            read(server.of("none"))
        assert "comp=list" not in str(told.value), "nor a signature that were beside it"

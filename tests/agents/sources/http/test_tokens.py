"""Who may publish what, and what a server refuses to start with."""

import os
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from agents.commands import cli
from agents.sources.http.problems import ProblemError
from agents.sources.http.tokens import Token, Tokens, hash_of, new_token
from streams.errors import ConfigError
from tests.agents.sources.http.running import Running
from tests.agents.sources.http.test_documents import with_server

ENTRY = '[[token]]\nname = "{}"\nsha256 = "{}"\nprefixes = {}\n'


def file_of(path: Path, *entries: tuple[str, str, str]) -> Path:
    path.write_text("".join(ENTRY.format(name, digest, prefixes) for name, digest, prefixes in entries))
    return path


def test_a_token_may_publish_what_begins_with_its_prefixes(tmp_path: Path) -> None:
    token, digest = new_token()
    other, other_digest = new_token()
    path = file_of(tmp_path / "tokens", ("crm", digest, '["crm/", "mail/"]'), ("scrapes", other_digest, "[]"))

    async def scenario(server: Running) -> None:
        api = server.api
        for sent, doc, status in (
            (token, "crm%2F1", 200),
            (token, "mail/1", 200),
            (token, "hr/1", 403),
            (token, "crm", 403),
            (other, "crm/1", 403),
            (token[:-1], "crm/1", 401),
            ("", "crm/1", 401),
        ):
            api.token = sent
            answer = await api.put(doc, {"text": "x"})
            assert (answer.status, token in str(answer.body)) == (status, False)
            assert (await api.ask("DELETE", f"/documents/{doc}")).status == status
            assert ("WWW-Authenticate" in answer.headers) == (status == 401)
        for sent, status in (("", 401), (other, 200)):
            api.token = sent
            assert (await api.ask("GET", "/metrics")).status == status
        api.token = None
        for path in ("/livez", "/readyz", "/openapi.json"):
            assert (await api.ask("GET", path)).status == 200
        assert {key for key, _ in server.broker.records} == {b"crm/1", b"mail/1"}
        assert (server.count("published", "http/crm"), server.count("refused", "http/crm")) == (2, 4)

    with_server(scenario, tokens=Tokens(path))


def test_a_file_that_changes_counts_at_once_and_a_broken_one_does_not(tmp_path: Path) -> None:
    (old, old_digest), (new, new_digest) = new_token(), new_token()
    tokens = Tokens(file_of(tmp_path / "tokens", ("old", old_digest, '[""]')))

    def known(token: str) -> bool:
        try:
            return bool(tokens.of(f"Bearer {token}"))
        except ProblemError:
            return False

    assert (known(old), known(new)) == (True, False)
    replaced = file_of(tmp_path / "next", ("new", new_digest, '[""]'))
    os.replace(replaced, tmp_path / "tokens")
    tokens.look()
    assert (known(old), known(new)) == (False, True)
    (tmp_path / "tokens").write_text("[[token]]\n")
    tokens.look()
    assert known(new)
    (tmp_path / "tokens").unlink()
    tokens.look()
    assert known(new)
    file_of(tmp_path / "tokens", ("old", old_digest, '[""]'))
    tokens.look(again=True)
    assert (known(old), known(new)) == (True, False)


def test_without_tokens_it_is_asked_for_by_this_machines_names() -> None:
    """A page in a browser, whose name somebody has made lead here, is told no."""

    async def scenario(server: Running) -> None:
        for host, status in (
            ("localhost:8464", 200),
            ("127.0.0.1", 200),
            ("[::1]:80", 200),
            ("evil.example", 421),
            ("evil.example:8464", 421),
            ("", 421),
        ):
            headers = {"Host": host, "Content-Type": "application/json"}
            answer = await server.api.ask("PUT", "/documents/a", b'{"text": "x"}', headers)
            assert answer.status == status, host

    with_server(scenario, local=True)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "cannot be read"),
        ("[[token", "is not TOML"),
        ("", "has no [[token]]"),
        ("tokens = 1", "has no [[token]]"),
        (ENTRY.format("a b", "0" * 64, "[]"), "token 1: name: letters"),
        (ENTRY.format("a", "penstock_x", "[]"), "never the token itself"),
        (ENTRY.format("a", "0" * 64, "[1]"), "a list of strings"),
        ('[[token]]\nname = "a"\n', "needs name, sha256 and prefixes"),
        (ENTRY.format("a", "0" * 64, "[]") + ENTRY.format("a", "1" * 64, "[]"), "the name a is there twice"),
        (ENTRY.format("a", "0" * 64, "[]") + ENTRY.format("b", "0" * 64, "[]"), "is there twice"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str | None, part: str) -> None:
    path = tmp_path / "tokens"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Tokens(path)
    assert part in str(caught.value)


def test_the_command_prints_a_token_and_an_entry_that_knows_it() -> None:
    said = CliRunner().invoke(cli, ["ingest", "token", "crm", "--prefix", 'c"/', "--prefix", "mail/"])
    assert said.stderr.startswith("For the client")
    token = said.stderr.splitlines()[2]
    assert token not in said.stdout
    (row,) = tomllib.loads(said.stdout)["token"]
    assert (row["name"], row["prefixes"], row["sha256"]) == ("crm", ['c"/', "mail/"], hash_of(token))
    assert "It may publish nothing so far" in CliRunner().invoke(cli, ["ingest", "token", "crm"]).output
    assert CliRunner().invoke(cli, ["ingest", "token", "a b"]).exit_code == 1


def test_every_id_begins_with_nothing_and_no_id_with_no_prefix() -> None:
    assert Token(name="a", sha256="", prefixes=("",)).allows("x")
    assert not Token(name="a", sha256="", prefixes=()).allows("x")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--host", "0.0.0.0"], "give it --tokens FILE"),
        (["--host", "::"], "give it --tokens FILE"),
        (["--host", "0.0.0.0", "--tokens", "TOKENS"], "sent unencrypted: give it --tls-cert"),
        (["--tokens", "absent"], "--tokens absent cannot be read"),
        (["--tls-cert", "absent"], "--tls-cert absent"),
        (["--tls-key", "absent"], "--tls-cert, which is missing"),
    ],
)
def test_a_server_that_would_let_anybody_in_does_not_start(tmp_path: Path, arguments: list[str], part: str) -> None:
    path = file_of(tmp_path / "tokens", ("a", "0" * 64, '[""]'))
    found = CliRunner().invoke(cli, ["ingest", "serve", *(str(path) if a == "TOKENS" else a for a in arguments)])
    assert isinstance(found.exception, ConfigError)
    assert part in str(found.exception)

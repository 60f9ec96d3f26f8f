"""Which addresses are connected to: of each kind, in every form that leads there."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from agents.sources.web.addresses import why_refused
from agents.sources.web.fetching import Asked, Broken, Client, Fetched
from tests.kit.website import page, serving

PRIVATE = ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"]
PRIVATE += ["64:ff9b::a00:1", "2002:a00:1::", "::10.0.0.1"]
NEVER = [
    "169.254.169.254",
    "fe80::1",
    "fe80::1%eth0",
    "224.0.0.1",
    "ff02::1",
    "0.0.0.0",
    "::",
    "::ffff:169.254.169.254",
]
NEVER += ["64:ff9b::a9fe:a9fe", "255.255.255.255"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_ones_only_where_they_are_meant(address: str) -> None:
    assert "--allow-private" in (why_refused(address, allow_private=False) or "")
    assert why_refused(address, allow_private=True) is None


@pytest.mark.parametrize("address", NEVER)
def test_some_are_never_meant(address: str) -> None:
    assert why_refused(address, allow_private=False)
    assert why_refused(address, allow_private=True) or address == "255.255.255.255"


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public_ones_are(address: str) -> None:
    assert why_refused(address, allow_private=False) is None


class Rebinding(AbstractResolver):
    """Names that lead here, whatever they led to before."""

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        row = ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)
        return [row]

    async def close(self) -> None:
        """Nothing."""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "rebound.example", "[::1]"])
def test_nothing_is_sent_to_this_machine_unless_it_may_be(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as site:
        site.pages["/"] = page("Secret", "Of this machine.")
        port = site.url.rpartition(":")[2]
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, site.url)

        async def ask(allow: bool) -> object:
            client = Client(contact=None, allow_private=allow)
            if host.endswith("example"):
                client._session.connector._resolver = Rebinding()  # type: ignore[union-attr]
            try:
                return await client.get(Asked(url=f"http://{host}:{port}/"), tmp_path / "body")
            finally:
                await client.close()

        found = asyncio.run(ask(False))
        assert isinstance(found, Broken)
        assert "is no public address" in found.reason or "not a canonical IPv4 address" in found.reason
        assert not found.passes
        assert site.served == 0
        if host not in ("[::1]", "2130706433"):  # where nothing listens, or which the client itself does not take
            assert isinstance(asyncio.run(ask(True)), Fetched)

"""The way to a service over HTTP: one connection pool, a key from a file, answers of a bounded size."""

import asyncio
import ssl
from pathlib import Path

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    TCPConnector,
)
from yarl import URL

from models.api.asking import Reply, UnansweredError
from streams.errors import ConfigError

CONNECT_S = 10.0
BEARER = "Authorization"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
DENIED = 401


class HttpTransport:
    """`Transport`. Used by one event loop; opens no connection before the first request."""

    def __init__(
        self, url: str, *, key_file: Path | None, key_header: str, ca_certs: Path | None, timeout_s: float
    ) -> None:
        """Raises ConfigError for a file that cannot be used, and a key that would be sent unencrypted."""
        self._url = URL(url, encoded=True)
        self._key_file = key_file
        self._key_header = key_header
        self._key = read_key(key_file) if key_file else None
        if self._key and self._url.scheme != "https" and self._url.host not in LOOPBACK:
            raise ConfigError(
                "service.key_file: the key, and every text, would be sent unencrypted, as the service's address is "
                "http://; add the model again with an https:// --url"
            )
        self._tls: ssl.SSLContext | bool = True
        if self._url.scheme == "https":
            try:
                self._tls = ssl.create_default_context(cafile=ca_certs)
            except (OSError, ssl.SSLError) as exc:
                raise ConfigError(f"service.ca_certs = {ca_certs} cannot be used: {exc}") from exc
        self._timeout = ClientTimeout(total=timeout_s, sock_connect=min(CONNECT_S, timeout_s))
        self._session: ClientSession | None = None

    async def post(self, body: bytes, most: int) -> Reply:
        """See `Transport`. A key that is refused is read again, once: it may have been replaced."""
        used = self._key  # another request may be answered first, and have replaced it
        reply = await self._post(body, most)
        if reply.status == DENIED and self._key_file and (key := read_key(self._key_file)) != used:
            self._key = key
            reply = await self._post(body, most)
        return reply

    async def _post(self, body: bytes, most: int) -> Reply:
        if self._session is None:
            self._session = ClientSession(connector=TCPConnector(limit=0), timeout=self._timeout)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers[self._key_header] = f"Bearer {self._key}" if self._key_header == BEARER else self._key
        try:
            async with self._session.post(
                self._url, data=body, headers=headers, ssl=self._tls, allow_redirects=False
            ) as answer:
                raw = bytearray()
                async for part in answer.content.iter_any():
                    raw += part
                    if len(raw) > most:
                        raise UnansweredError(f"its answer is longer than {most} bytes")
                told = {name.lower(): value for name, value in answer.headers.items()}
                return Reply(status=answer.status, body=bytes(raw), headers=told)
        except TimeoutError as exc:  # aiohttp's are such, too
            why, sent = f"no answer within {self._timeout.total:g} s", not isinstance(exc, ConnectionTimeoutError)
            raise UnansweredError(why, timed_out=True, sent=sent) from exc
        except (ClientError, OSError, asyncio.IncompleteReadError) as exc:
            sent = not isinstance(exc, ClientConnectorError)
            raise UnansweredError(f"{type(exc).__name__}: {exc}"[:300], sent=sent) from exc

    async def close(self) -> None:
        """Close its connections; a request that is under way fails."""
        if self._session is not None:
            await self._session.close()


def read_key(path: Path) -> str:
    """The key in a file. Raises ConfigError where there is none that can be sent in a header."""
    try:
        key = path.read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise ConfigError(f"service.key_file = {path} cannot be read: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"service.key_file = {path} is not UTF-8 text") from None
    if not key:
        raise ConfigError(f"service.key_file = {path} is empty")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"service.key_file = {path}: letters, digits and signs of ASCII only, in one line")
    return key

"""What answers at `kafka.bootstrap_servers`, for when a client of Kafka does not get on with it."""

import asyncio
import re
import ssl
import struct
from dataclasses import dataclass

from aiokafka.conn import collect_hosts

SILENT_S = 5.0
LONGEST_LINE = 80

_CORRELATION = b"pens"
_CLIENT = b"penstock / HTTP/1.0\r\n\r\n"
_BODY = struct.pack(">hh", 18, 0) + _CORRELATION + struct.pack(">h", len(_CLIENT)) + _CLIENT
_QUESTION = struct.pack(">i", len(_BODY)) + _BODY
"""Kafka's `ApiVersions` request, version 0, with a client's name that ends a line: whoever reads lines, such as an HTTP
server, sees a bad request, and says so, instead of waiting for its end."""
_TLS_ALERT = b"\x15\x03"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """`listens`: it takes connections. `silent`: it said nothing within 5 s. `says`: what is not Kafka's protocol."""

    server: str
    listens: bool = True
    silent: bool = False
    says: str | None = None


async def ask(servers: str, context: ssl.SSLContext | None) -> list[Found]:
    """What answers at each of these servers, with TLS where there is a context. Takes up to 10 s."""
    hosts = [(host, port) for host, port, _ in collect_hosts(servers, randomize=False)]
    return await asyncio.gather(*(_ask(host, port, context) for host, port in hosts))


async def _ask(host: str, port: int, context: ssl.SSLContext | None) -> Found:
    server = f"{host}:{port}"
    try:
        async with asyncio.timeout(SILENT_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLError:
        return Found(server=server)
    except (OSError, TimeoutError):
        return Found(server=server, listens=False)
    try:
        writer.write(_QUESTION)
        async with asyncio.timeout(SILENT_S):
            return Found(server=server, says=_foreign(await reader.read(1024)))
    except TimeoutError:
        return Found(server=server, silent=True)
    except OSError:
        return Found(server=server)
    finally:
        writer.close()


def _foreign(answer: bytes) -> str | None:
    """The first line of an answer that is not Kafka's; None for one that is, and for a closed connection."""
    if not answer or answer[4:8] == _CORRELATION:
        return None
    if answer.startswith(_TLS_ALERT):
        return "with a TLS alert: it speaks TLS, and kafka.security_protocol says otherwise"
    return repr(re.split(rb"[\r\n]", answer, maxsplit=1)[0][:LONGEST_LINE].decode("latin-1"))

"""Documents over HTTP: `penstock ingest serve`. A record's way from the socket to the broker's acknowledgement:

server      connections, one request after the other; what it may cost, and how long it may take; the drain
tokens      who may publish which ids
routes      which function answers what; `openapi` describes the same
body        reads what was sent, never more than it may be, and unpacks it
documents   one document: JSON, a deletion, or a file through the converter (`uploads`)
lines       many: NDJSON, a result for each line
admission   no record above `--max-lag`
log         the producer: acknowledged, or not said to be
waiting     until a search finds it
serve       puts all of it together, and ends it

Nothing is remembered in the topic of `agents.sources.state`: who pushes documents knows itself what it has.
"""

from dataclasses import dataclass
from pathlib import Path

MIB = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What requests may cost, all together, and one of them. What is above is refused, and may be tried again.

    `upload`: bytes of a file, unpacked; of a document, the topic says how many. `held`: bytes of documents between
    their first byte and the acknowledgement. `answers`: bytes of results that wait in memory for a client that does not
    read them. `waits`: requests that wait until a search finds a document. `uploads`: files at once, one of which is
    converted while the others wait on disk. `idle_s`: a connection without a request, or a client that sends nothing.
    `publish_s`: until the broker has it.
    """

    requests: int = 512
    waits: int = 256
    connections: int = 1024
    streams: int = 32
    uploads: int = 8
    upload: int = 64 * MIB
    held: int = 128 * MIB
    answers: int = 4 * MIB
    idle_s: float = 60.0
    publish_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Where to listen, who may publish, and how far ahead of the workers. `partitions`: of a topic that is made now."""

    host: str = "127.0.0.1"
    port: int = 8464
    tokens: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    allow_plaintext_tokens: bool = False
    max_lag: int = 10_000
    partitions: int = 8
    limits: Limits = Limits()

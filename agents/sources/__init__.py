"""Where documents come from. A source is an iterable of `Outgoing`; `agents.ingest` publishes them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A record to publish in the wire format. `origin`: where it came from, for messages to people."""

    key: bytes
    value: bytes | None
    origin: str

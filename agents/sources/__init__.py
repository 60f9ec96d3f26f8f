"""Where documents come from. A source is an iterable of `Outgoing`; `agents.sources.publish` publishes them."""

from dataclasses import dataclass

LARGEST_BYTES = 16 * 1024**2
"""Of a record that is published; brokers take 1 MiB unless they are told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A record to publish in the wire format. `origin`: where it came from, for messages to people."""

    key: bytes
    value: bytes | None
    origin: str

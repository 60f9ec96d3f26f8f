"""What a `Content-Type` says, however strange: a header is another's word, and libraries raise for some of them."""

import re
from collections.abc import Mapping
from typing import NamedTuple

UNKNOWN = "application/octet-stream"
_CHARSET = re.compile(r""";\s*charset\s*=\s*["']?([A-Za-z0-9][A-Za-z0-9._:+-]{0,39})""", re.IGNORECASE)


class MediaType(NamedTuple):
    """`name` in lower case, without parameters; empty where nothing is said. `charset`: as it is told."""

    name: str
    charset: str | None


def media_type(headers: Mapping[str, str]) -> MediaType:
    """Of a request or an answer."""
    told = headers.get("Content-Type", "")
    charset = _CHARSET.search(told)
    return MediaType(told.partition(";")[0].strip().lower(), charset[1] if charset else None)

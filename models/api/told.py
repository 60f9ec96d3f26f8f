"""What a service says of its limits, in the headers of an answer. Pure.

Retry-After: 20 | Wed, 21 Oct 2026 07:28:00 GMT        RFC 9110, 10.2.3
retry-after-ms: 1500
x-ratelimit-remaining-requests: 0, x-ratelimit-reset-requests: 6m0s | 20 | 17ms     OpenAI's, and of others
ratelimit-remaining: 0, ratelimit-reset: 20            draft-ietf-httpapi-ratelimit-headers, before -08

Where seconds belong some gateways tell the moment, in seconds or milliseconds since 1970, or as a date (ISO 8601).
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_S = 3600.0
"""Nobody waits for longer without asking again."""
EPOCH, EPOCH_MS = 1e9, 1e12
"""From here on a number is a moment, and no wait."""
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = r"(\d+(?:\.\d+)?)(ms|s|m|h|d)"
_DURATION = re.compile(f"(?:{_PART})+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_KINDS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("ratelimit-remaining", "ratelimit-reset"),
)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that an answer asks to wait before the next request; None where it does not say."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return min(LONGEST_S, milliseconds / 1000)
    seconds = _seconds(headers.get("retry-after", ""), now)
    return None if seconds is None else min(LONGEST_S, seconds)


def used_up_s(headers: Mapping[str, str], now: datetime) -> float:
    """Seconds until there is something of a limit again of which nothing is left; 0 while something is."""
    waits = [
        _seconds(headers.get(reset, ""), now) or 0.0
        for remaining, reset in _KINDS
        if (left := _number(headers.get(remaining))) is not None and left < 1
    ]
    return min(LONGEST_S, max(waits, default=0.0))


def _number(value: str | None) -> float | None:
    return float(value) if value is not None and _NUMBER.fullmatch(value.strip()) else None


def _seconds(value: str, now: datetime) -> float | None:
    """From now on, of `6m0s`, `17ms`, plain seconds, or a moment; None for anything else."""
    text = value.strip()
    if (number := _number(text)) is not None:
        since_1970 = number / 1000 if number >= EPOCH_MS else number
        return number if number < EPOCH else max(0.0, since_1970 - now.timestamp())
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = parse(text)
        except (ValueError, OverflowError):
            continue
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, (moment - now).total_seconds())
    return None

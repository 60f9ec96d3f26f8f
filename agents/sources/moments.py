"""Moments that sources tell."""

from datetime import UTC, datetime


def iso(moment: datetime) -> str | None:
    """ISO 8601; without a zone it is UTC. None for what UTC cannot say: the first and last hours of the calendar."""
    try:
        (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        return None
    return moment.isoformat() + ("" if moment.tzinfo else "Z")

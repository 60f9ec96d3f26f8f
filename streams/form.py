"""How a record is read: in Penstock's own form, or, where the topic has another one, by the user's rules."""

from contextlib import suppress
from typing import Protocol

from streams.mapping import Mapper, MappingError
from streams.record import Document, Record, Rejected, decode, document_of, json_of, rejected

FORM_HEADER = "penstock.form"
OWN = b"own"
"""Of the header: this record is in Penstock's own form, whatever the topic's is."""


class Form(Protocol):
    """Reads records. Pure, and the same every time."""

    def doc_id(self, record: Record) -> str | None:
        """Which document it is about, though it may not be a valid one; None where that cannot be read."""

    def decode(self, record: Record) -> Document | Rejected:
        """Never raises for bad input."""


class OwnForm:
    """Penstock's: the key is the id, and the value says what the README describes."""

    def doc_id(self, record: Record) -> str | None:
        """The key."""
        try:
            return (record.key or b"").decode() or None
        except UnicodeDecodeError:
            return None

    def decode(self, record: Record) -> Document | Rejected:
        """`streams.record.decode`."""
        return decode(record)


OWN_FORM = OwnForm()


class MappedForm:
    """Any JSON, by rules."""

    def __init__(self, mapper: Mapper) -> None:
        self._mapper = mapper

    def doc_id(self, record: Record) -> str | None:
        """By its rule."""
        if _is_own(record):
            return OWN_FORM.doc_id(record)
        value = None
        with suppress(ValueError):
            value = None if record.value is None else json_of(record.value)
        try:
            return self._mapper.id_of(record.key, value) or None
        except MappingError:
            return None

    def decode(self, record: Record) -> Document | Rejected:
        """What the rules make of it, then checked as if somebody had published that."""
        if _is_own(record):
            return OWN_FORM.decode(record)
        try:
            doc_id, body = self._mapper.made(record.key, None if record.value is None else json_of(record.value))
        except ValueError as exc:
            return rejected(record, str(exc))
        return document_of(record, doc_id, body)


def _is_own(record: Record) -> bool:
    return (FORM_HEADER, OWN) in record.headers

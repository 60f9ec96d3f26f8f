"""How a record is read: in Penstock's own form, or, where the topic has another one, by schemas and rules."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

import orjson

from streams.mapping import Key, Mapper, MappingError, key_of
from streams.record import NO_KEY, Document, Record, Rejected, decode, document_of, rejected
from streams.values import Values

FORM_HEADER = "penstock.form"
OWN = b"own"
"""Of the header: this record is in Penstock's own form, whatever the topic's is."""


class Schemas(Protocol):
    """Where readers of schemas come from."""

    @property
    def waits(self) -> bool:
        """Whether they do not come for now."""

    async def know(self, numbers: Sequence[int]) -> None:
        """Returns when each of these has a reader, or it is known that there is none. May wait for long."""


class Form(Protocol):
    """Reads records, the same every time."""

    @property
    def waits(self) -> bool:
        """Whether `ready` waits for somebody who does not answer."""

    async def ready(self, records: Sequence[Record]) -> None:
        """Before these are read. May wait for long, where schemas come from a registry."""

    def doc_id(self, record: Record) -> str | None:
        """Which document it is about, though it may not be a valid one; None where that cannot be read."""

    def decode(self, record: Record) -> Document | Rejected:
        """Never raises for bad input."""

    def missing(self, record: Record) -> list[str]:
        """Fields that rules name and the record does not have, each with its rules; none of what cannot be read."""


class OwnForm:
    """Penstock's: the key is the id, and the value says what the README describes."""

    waits = False

    async def ready(self, _: Sequence[Record]) -> None:
        """At once."""

    def doc_id(self, record: Record) -> str | None:
        """The key."""
        try:
            return (record.key or b"").decode() or None
        except UnicodeDecodeError:
            return None

    def decode(self, record: Record) -> Document | Rejected:
        """`streams.record.decode`."""
        return decode(record)

    def missing(self, _: Record) -> list[str]:
        """There are no rules."""
        return []


OWN_FORM = OwnForm()


class ForeignForm:
    """Values in another encoding, or other fields, or both."""

    def __init__(self, values: Values, mapper: Mapper | None, schemas: Schemas | None = None) -> None:
        """`mapper`: None where the fields are Penstock's own. `schemas`: where the encoding needs some."""
        self._values = values
        self._mapper = mapper
        self._schemas = schemas

    @property
    def waits(self) -> bool:
        """For schemas."""
        return self._schemas is not None and self._schemas.waits

    async def ready(self, records: Sequence[Record]) -> None:
        """Waits for the schemas of keys and values."""
        if self._schemas is None:
            return
        found = {self._values.schema_id(data) for record in records for data in (record.key, record.value)}
        if numbers := sorted(number for number in found if number is not None):
            await self._schemas.know(numbers)

    def doc_id(self, record: Record) -> str | None:
        """By its rule; the key, where that is enough and the value cannot be read."""
        if is_own(record):
            return OWN_FORM.doc_id(record)
        value = None
        with suppress(ValueError):
            value = self._read(record.value)
        try:
            key = self._key(record.key)
            return (self._mapper.id_of(key, value) if self._mapper else key.text) or None
        except (MappingError, ValueError):
            return None

    def decode(self, record: Record) -> Document | Rejected:
        """What the rules make of it, then checked as if somebody had published that."""
        if is_own(record):
            return OWN_FORM.decode(record)
        try:
            doc_id, body = self._made(self._key(record.key), self._read(record.value))
        except (
            ValueError,
            TypeError,
            ArithmeticError,
            RecursionError,
        ) as exc:
            return rejected(record, str(exc)[:1000])
        return document_of(record, doc_id, body)

    def missing(self, record: Record) -> list[str]:
        """As `Mapper.missing`."""
        if self._mapper is None or is_own(record) or record.value is None:
            return []
        with suppress(ValueError, TypeError, ArithmeticError, RecursionError):  # why it cannot be read, `decode` says
            return self._mapper.missing(self._key(record.key), self._read(record.value))
        return []

    def _made(self, key: Key, value: Any) -> tuple[str, dict[str, Any] | None]:
        if self._mapper:
            return self._mapper.made(key, value)
        if not key.text:
            raise ValueError(NO_KEY)
        if value is not None and not isinstance(value, dict):
            raise ValueError("the value is no object with fields; one with `text` or `chunks` is needed")
        return key.text, value and {name: one for name, one in value.items() if one is not None}

    def _read(self, data: bytes | None) -> Any:
        return None if data is None else self._values.read(data)

    def _key(self, data: bytes | None) -> Key:
        """Plain text, JSON, or in the encoding of the values where a schema's id is before it."""
        if data is None or not self._values.is_encoded(data):
            return key_of(data)
        found = self._values.read(data)
        if isinstance(found, str):
            return Key(found)
        return Key(orjson.dumps(found).decode(), found if isinstance(found, dict) else None)


def is_own(record: Record) -> bool:
    """Whether it is in Penstock's own form, whatever the topic's is: it was made again from a document's chunks."""
    return (FORM_HEADER, OWN) in record.headers

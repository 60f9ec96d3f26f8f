"""How the records of the configured topic are read."""

import math
from collections.abc import Mapping
from importlib.util import find_spec

from agents.extras import brought_by
from agents.metrics import Metrics
from agents.schemas.protoc import proto_reader
from agents.schemas.registry import Make, SchemaRegistry
from agents.settings import Settings
from streams.avro import avro_reader
from streams.errors import ConfigError
from streams.form import FORM_HEADER, OWN, OWN_FORM, ForeignForm, Form
from streams.mapping import Mapper
from streams.values import FramedValues, JsonValues, Reader


def _avro_reader(schema: str, references: Mapping[str, str]) -> Reader:
    return avro_reader(schema, list(dict.fromkeys(references.values())))


MAKES: dict[str, Make] = {"avro": _avro_reader, "protobuf": proto_reader}
NEEDS = {"avro": "fastavro", "protobuf": "grpc_tools"}
"""Modules of the extras, which have the names of the formats."""


def form_of(settings: Settings, metrics: Metrics | None = None, *, patience_s: float = math.inf) -> Form:
    """Asks nobody yet; each has schemas of its own. `patience_s`: for answers of a schema registry.

    Raises ConfigError where an extra is missing.
    """
    source = settings.source
    mapper = Mapper(source.mapping.rules) if source.mapping else None
    if source.format in MAKES:
        if find_spec(NEEDS[source.format]) is None:
            raise ConfigError(
                f"source.format = {source.format!r} needs {NEEDS[source.format]}: {brought_by(source.format)}"
            )
        readers: dict[int, Reader | str] = {}
        schemas = SchemaRegistry(
            source.schema_registry,
            source.format.upper(),
            MAKES[source.format],
            readers,
            metrics or Metrics(),
            patience_s,
        )
        return ForeignForm(FramedValues(source.format, readers), mapper, schemas)
    if mapper is None and source.format == "json":
        return OWN_FORM
    return ForeignForm(JsonValues(framed=source.format == "json_schema"), mapper)


def form_of_rows(settings: Settings) -> Form:
    """Of rows of files, whatever the encoding of the topic is: JSON, by the rules that there are."""
    mapping = settings.source.mapping
    return ForeignForm(JsonValues(framed=False), Mapper(mapping.rules)) if mapping else OWN_FORM


def own_headers(settings: Settings) -> list[tuple[str, bytes]]:
    """Of a record in Penstock's own form, where the topic's is another one."""
    source = settings.source
    return [(FORM_HEADER, OWN)] if source.mapping or source.format != "json" else []

"""How the records of the configured topic are read."""

from agents.metrics import Metrics
from agents.schemas.registry import Make, SchemaRegistry
from agents.settings import Settings
from streams.avro import avro_reader
from streams.form import FORM_HEADER, OWN, OWN_FORM, ForeignForm, Form
from streams.mapping import Mapper
from streams.protobuf import protobuf_reader
from streams.values import FramedValues, JsonValues, Reader

MAKES: dict[str, Make] = {"avro": avro_reader, "protobuf": protobuf_reader}


def form_of(settings: Settings, metrics: Metrics | None = None) -> Form:
    """Asks nobody yet; each has schemas of its own."""
    source = settings.source
    mapper = Mapper(source.mapping.rules) if source.mapping else None
    if source.format in MAKES:
        readers: dict[int, Reader | str] = {}
        schemas = SchemaRegistry(
            source.schema_registry, source.format.upper(), MAKES[source.format], readers, metrics or Metrics()
        )
        return ForeignForm(FramedValues(source.format, readers), mapper, schemas)
    if mapper is None and source.format == "json":
        return OWN_FORM
    return ForeignForm(JsonValues(framed=source.format == "json_schema"), mapper)


def own_headers(settings: Settings) -> list[tuple[str, bytes]]:
    """Of a record in Penstock's own form, where the topic's is another one."""
    source = settings.source
    return [(FORM_HEADER, OWN)] if source.mapping or source.format != "json" else []

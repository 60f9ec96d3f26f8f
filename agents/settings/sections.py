"""The sections of the settings file: their keys, defaults and bounds, and what each refuses.

Credentials are not sent over a connection that is not encrypted, unless `allow_plaintext_credentials` says so.
"""

import re
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AnyHttpUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    UrlConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from agents.settings.environment import cache_dir
from streams import document_vector
from streams.cost import Price, nano
from streams.flags import Flag
from streams.mapping import Mapper, Rules
from streams.plan import METADATA
from streams.routes import DEFAULT, Conditions

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
ALIAS = r"^[a-z0-9][a-z0-9._-]*$"
FINGERPRINT = r"^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$"
FIELD = r"^[a-z][a-z0-9_]*$"
METADATA_FIELD = r"^[A-Za-z][A-Za-z0-9_-]*$"
THEN = r"^(pause|alert|route:[A-Za-z0-9][A-Za-z0-9._-]*)$"
INTERVAL = r"^(-1|\d+(nanos|micros|ms|s|m|h|d))$"
"""What these allow is told people by `mistakes.ALLOWED`."""

CONDITIONS = tuple(field.name for field in fields(Conditions))
HttpUrl = Annotated[AnyHttpUrl, UrlConstraints(allowed_schemes=["http", "https"])]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=NAME)]


class Section(BaseModel):
    """A section of the settings: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _none_is_a_word(cls, data: Any) -> Any:
        """Where `none` is one of a key's own values: of the environment it comes as no value."""
        if not isinstance(data, dict):
            return data
        words = {name: "none" for name, field in cls.model_fields.items() if field.default == "none"}
        return {**data, **{name: word for name, word in words.items() if data.get(name, word) is None}}


class KafkaSettings(Section):
    """The cluster, and how to log in there.

    `sasl_*`: for SASL_SSL. `ssl_cafile`: whom to trust, unset: whom the system trusts. `ssl_certfile`, `ssl_keyfile`,
    `ssl_password`: the client's own certificate (PEM), for brokers that ask for one. `session_timeout_s`: after so long
    without a heartbeat a worker's partitions go to the others; the broker bounds it (`group.min.session.timeout.ms`).
    """

    bootstrap_servers: str = Field("127.0.0.1:9092", min_length=1)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_password: SecretStr | None = None
    ssl_check_hostname: bool = True
    allow_plaintext_credentials: bool = False
    session_timeout_s: float = Field(10.0, ge=1, le=1800)

    @field_validator("bootstrap_servers")
    @classmethod
    def _servers_only(cls, value: str) -> str:
        if "@" in value:
            raise ValueError("a login does not belong here: kafka.sasl_username and kafka.sasl_password")
        if found := re.search(r"[A-Za-z+]*://", value):
            raise ValueError(f"host:port is needed, without {found[0]}, and a comma between several")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        protocol = self.security_protocol
        login = self.sasl_username is not None or self.sasl_password is not None
        tls = [name for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile") if getattr(self, name) is not None]
        if login and not protocol.startswith("SASL"):
            raise ValueError(f'kafka.sasl_username is not used with {protocol}: kafka.security_protocol = "SASL_SSL"')
        if tls and not protocol.endswith("SSL"):
            raise ValueError(
                f'kafka.{tls[0]} is not used with {protocol}: kafka.security_protocol = "SSL" or "SASL_SSL"'
            )
        if protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password):
            raise ValueError(f"{protocol} needs kafka.sasl_username and kafka.sasl_password")
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ValueError("kafka.ssl_keyfile is the key of kafka.ssl_certfile, which is missing")
        return self


class MappingSettings(Section):
    """How documents are made of a topic's own JSON: as `streams.mapping.Rules` says. Part of the index contract."""

    text: str = Field(min_length=1)
    id: str = Field("{key}", min_length=1)
    title: str | None = None
    url: str | None = None
    author: str | None = None
    timestamp: str | None = None
    timestamp_unit: Literal["s", "ms", "us"] = "ms"
    metadata: tuple[str, ...] = ()
    deleted: str | None = None
    deleted_values: tuple[str, ...] = ()
    preset: Literal["none", "debezium"] = "none"

    @property
    def rules(self) -> Rules:
        """The same, as values."""
        return Rules(**self.model_dump())

    @model_validator(mode="after")
    def _rules_that_are_some(self) -> Self:
        if self.deleted_values and not self.deleted:
            raise ValueError("deleted_values are values of the field that `deleted` names, which is missing")
        Mapper(self.rules)
        return self


class SchemaRegistrySettings(Section):
    """Confluent's, or one that speaks like it. `ca_certs`: whom to trust, unset: whom the system trusts."""

    url: HttpUrl | None = None
    username: str | None = None
    password: SecretStr | None = None
    ca_certs: Path | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("source.schema_registry.username and .password go together")
        if self.username and self.url and self.url.scheme != "https" and self.url.host not in _LOOPBACK:
            raise ValueError("a login is sent over https only: source.schema_registry.url is http")
        return self


class SourceSettings(Section):
    """`group` is the consumer group and the Faust app id; the changelog topic derives from it.

    `format`: of values; all but `json` have a schema's id before them. `mapping`: for a topic whose records do not have
    Penstock's own fields.
    """

    topic: Name = "documents"
    group: Name = "penstock"
    format: Literal["json", "json_schema", "avro", "protobuf"] = "json"
    schema_registry: SchemaRegistrySettings = SchemaRegistrySettings()
    mapping: MappingSettings | None = None

    @model_validator(mode="after")
    def _schemas_from_somewhere(self) -> Self:
        if self.format in ("avro", "protobuf") and self.schema_registry.url is None:
            raise ValueError(f"source.format = {self.format!r} needs source.schema_registry.url")
        return self


class SplitSettings(Section):
    """How texts are split; part of the index contract.

    `document_vector`: of a document itself, on its first chunk; `mean`: that of its chunks, weighed by their tokens.
    """

    max_chars: int = Field(1000, ge=16, le=100_000)
    overlap_chars: int = Field(100, ge=0)
    document_vector: Literal["none", "mean"] = "none"

    @model_validator(mode="after")
    def _less_than_a_chunk(self) -> Self:
        if self.overlap_chars >= self.max_chars:
            raise ValueError(
                f"split.overlap_chars ({self.overlap_chars}) must be less than split.max_chars ({self.max_chars}): a "
                "tenth of it is usual"
            )
        return self


class QualitySettings(Section):
    """`reject`: documents of which more than half has one of these flags become dead letters. Part of the index
    contract."""

    reject: tuple[Flag, ...] = ()


class ModelSettings(Section):
    """Which exported model, and how it is run: unset or `auto`: what is fastest on this machine, measured once.

    `precision`: what an fp32 model is computed in. `threads`: cores that inference may use; unset: all usable ones.
    `canary_s`: so often a running worker has the model embed all texts again whose vectors are known.
    """

    name: Name = "all-MiniLM-L6-v2"
    dir: Path = Field(default_factory=lambda: cache_dir() / "models")
    provider: Literal["auto", "cuda", "openvino", "cpu"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int | None = Field(None, ge=1, le=1024)
    canary_s: float = Field(60, ge=1, le=86_400)


Words = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
"""One, or a list of them."""
Values = dict[str, Words]


class RouteSettings(Section):
    """Documents that go to another model than `model.name`: those for which all conditions hold, of the first such
    route. Part of the index contract. The conditions are those of `streams.routes.Conditions`.

    `vector`: the field of that model's vectors; unset: `<elasticsearch.vector_field>_<model>`.
    """

    name: Name
    model: Name
    vector: Annotated[str, Field(pattern=FIELD, max_length=200)] | None = None
    min_chars: int | None = Field(None, ge=0)
    max_chars: int | None = Field(None, ge=0)
    language: Words = ()
    source: Words = ()
    metadata: Values = {}
    header: Values = {}

    @model_validator(mode="after")
    def _conditions(self) -> Self:
        if self.name == DEFAULT:
            raise ValueError(f"the name {DEFAULT} belongs to the route of what no other one takes: choose another")
        given = {name: getattr(self, name) for name in CONDITIONS if name in self.model_fields_set}
        if empty := [name for name, value in given.items() if value in (None, (), {})]:
            raise ValueError(f"{empty[0]} is empty, and would hold for every document: leave it out, or name a value")
        several = {"metadata": self.metadata, "header": self.header}
        if never := [
            f"{kind}.{name}" for kind, named in several.items() for name, values in named.items() if not values
        ]:
            raise ValueError(f"{never[0]} is empty, and nothing would do: leave it out, or name a value")
        if not given:
            raise ValueError(
                f"it has no condition ({', '.join(CONDITIONS)}), and would take every document: model.name is for that"
            )
        if self.min_chars is not None and self.max_chars is not None and self.min_chars > self.max_chars:
            raise ValueError(f"no text has at least {self.min_chars} characters and at most {self.max_chars}")
        return self

    @property
    def conditions(self) -> Conditions:
        """The same, as values."""
        return Conditions(**{name: getattr(self, name) for name in CONDITIONS})


class ServiceSettings(Section):
    """How the service of a model that was added with `penstock model add` is reached, and what it may be asked.

    `key_file`: holds its key. `ca_certs`: whom to trust, unset: whom the system trusts. `requests_per_minute`,
    `tokens_per_minute`: of all workers together; unset: no limit but the service's own. `max_concurrent`: requests of a
    worker at a time; `max_texts`, `max_tokens`: of one request; `timeout_s`: for its answer. `models`: the same for one
    of several services, by its model's name, in the place of all that stands here.
    """

    key_file: Path | None = None
    ca_certs: Path | None = None
    requests_per_minute: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1)
    max_concurrent: int = Field(4, ge=1, le=256)
    max_texts: int = Field(32, ge=2, le=8192)
    max_tokens: int = Field(8192, ge=16)
    timeout_s: float = Field(60, gt=0, le=3600)
    models: dict[Name, "ServiceSettings"] = {}

    @model_validator(mode="after")
    def _one_level(self) -> Self:
        if deep := [name for name, one in self.models.items() if one.models]:
            raise ValueError(f"service.models.{deep[0]}.models: services do not nest")
        return self


Amount = Annotated[Decimal, Field(ge=0, le=10**6, decimal_places=9)]
"""Of the currency."""


class ModelPrices(Section):
    """What a model costs: a million tokens, a request to its service; an hour of a core, or of a GPU, that is busy."""

    million_tokens: Amount = Decimal(0)
    request: Amount = Decimal(0)
    core_hour: Amount = Decimal(0)
    gpu_hour: Amount = Decimal(0)

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name} = {value}' for name, value in self if value)}}}"


class CostSettings(Section):
    """Prices by model; without any, nothing is counted. `currency`: a name, for people."""

    currency: str = Field("USD", min_length=1, max_length=20)
    models: dict[Name, ModelPrices] = {}

    @property
    def prices(self) -> dict[str, Price]:
        """The same, as values."""
        return {name: Price(**{what: nano(amount) for what, amount in price}) for name, price in self.models.items()}


class BudgetSettings(Section):
    """`per_day`: what all workers of the group together may spend a UTC day. `then`: `pause`: what needs embedding
    waits for the next day; `alert`: it goes on, and metrics tell; `route:NAME`: documents go by that route."""

    per_day: Annotated[Decimal, Field(gt=0, le=10**9, decimal_places=9)] | None = None
    then: Annotated[str, Field(pattern=THEN)] = "pause"

    @property
    def refuge(self) -> str | None:
        """The route that documents take then, if they take one."""
        return self.then.removeprefix("route:") if self.then.startswith("route:") else None


class BatchSettings(Section):
    """`linger_ms`: wait for a fuller window, and the longest that a run of the model should take.

    `adaptive`: the budget of a run, in tokens with padding, is found while running, up to `max_tokens`; else
    `max_tokens` (1024 when unset) is the budget.
    """

    adaptive: bool = True
    max_tokens: int | None = Field(None, ge=16)
    linger_ms: int = Field(200, ge=1, le=60_000)
    max_inflight_bytes: int = Field(64 * 1024**2, ge=1024**2, le=1024**4)


MetadataType = Literal["keyword", "text", "boolean", "integer", "long", "float", "double", "date"]


class ElasticsearchSettings(Section):
    """The cluster, and how a new index is made. Readers use `alias`.

    `metadata_fields`: types of fields of a record's `metadata` that become fields of their own, `metadata.NAME`, to be
    filtered and sorted by; the others stay together in `metadata.custom`.
    """

    url: HttpUrl = AnyHttpUrl("http://127.0.0.1:9200")
    alias: Annotated[str, Field(pattern=ALIAS, max_length=150)] = "documents"
    api_key: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None
    ca_certs: Path | None = None
    ssl_fingerprint: Annotated[str, Field(pattern=FINGERPRINT)] | None = None
    allow_plaintext_credentials: bool = False
    text_field: Annotated[str, Field(pattern=FIELD)] = "text"
    vector_field: Annotated[str, Field(pattern=FIELD)] = "vector"
    metadata_fields: dict[Annotated[str, Field(pattern=METADATA_FIELD)], MetadataType] = {}
    hnsw_type: Literal["hnsw", "int8_hnsw", "int4_hnsw", "bbq_hnsw"] = "int8_hnsw"
    hnsw_m: int = Field(16, ge=2, le=512)
    hnsw_ef_construction: int = Field(100, ge=1, le=3200)
    shards: int = Field(1, ge=1, le=1024)
    replicas: int = Field(1, ge=0, le=1024)
    refresh_interval: str = Field("1s", pattern=INTERVAL)

    @field_validator("url", mode="before")
    @classmethod
    def _whole_address(cls, value: object) -> object:
        if "@" in str(value):
            raise ValueError("a login does not belong here: elasticsearch.username and elasticsearch.password")
        if isinstance(value, str) and "://" not in value:
            raise ValueError("http:// or https:// is missing before it")
        return value

    @field_validator("url")
    @classmethod
    def _address_only(cls, value: AnyHttpUrl) -> AnyHttpUrl:
        if value.query or value.fragment:
            raise ValueError("scheme, host, port and path only")
        return value

    @field_validator("api_key", "username", "password")
    @classmethod
    def _fits_a_header(cls, value: str | SecretStr | None, info: ValidationInfo) -> str | SecretStr | None:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value or ""
        if not (text.isascii() and text.isprintable()):
            raise ValueError("letters, digits and signs of ASCII only: it is sent in a header")
        if info.field_name == "username" and ":" in text:
            raise ValueError("a colon would end it")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.api_key and (self.username or self.password):
            raise ValueError("elasticsearch.api_key beside elasticsearch.username: one of them can log in, not both")
        if bool(self.username) != bool(self.password):
            raise ValueError("elasticsearch.username and elasticsearch.password are needed together")
        if self.url.scheme == "https":
            return self
        if self.ca_certs or self.ssl_fingerprint:
            raise ValueError("elasticsearch.ca_certs and ssl_fingerprint are for https, elasticsearch.url is http")
        return self

    @field_validator("text_field", "vector_field")
    @classmethod
    def _not_of_documents(cls, value: str) -> str:
        if value == document_vector.FIELD:
            raise ValueError("Penstock has a field of that name in indices with document vectors: choose another")
        return value

    @field_validator("vector_field")
    @classmethod
    def _two_fields(cls, value: str, info: ValidationInfo) -> str:
        if value == info.data.get("text_field") or value in ("metadata", "penstock"):
            raise ValueError("must differ from the text field, `metadata` and `penstock`")
        return value

    @field_validator("metadata_fields")
    @classmethod
    def _not_ours(cls, value: dict[str, MetadataType]) -> dict[str, MetadataType]:
        if ours := sorted(value.keys() & METADATA):
            told = "; what records say there is in it" if ours == ["language"] else ": rename yours"
            raise ValueError(f"{', '.join(ours)}: Penstock has a field of that name in every index{told}")
        return value


class DeliverySettings(Section):
    """Retries of 429, 5xx and time-outs; unset: without end. Full jitter, cap 30 s."""

    max_retries: int | None = Field(None, ge=0)
    retry_backoff_ms: int = Field(100, ge=1, le=30_000)


class DeadLetterSettings(Section):
    """Where records go that cannot be processed; unset: `<source.topic>.dlq`.

    `max_ratio`: the worker stops when more than this share of 1,000 records is rejected; 1: never.
    """

    topic: Name | None = None
    max_ratio: float = Field(0.5, ge=0, le=1)


class AdminSettings(Section):
    """Metrics and health."""

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(9464, ge=0, le=65535)


class LifecycleSettings(Section):
    """`drain_s`: one deadline for a stop. `stall_s`: without any progress for so long, despite lag, the worker ends."""

    drain_s: float = Field(30, gt=0, le=86_400)
    stall_s: float = Field(120, ge=5, le=86_400)


class LogSettings(Section):
    """`json` for machines, `console` for people."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "console"

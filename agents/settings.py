"""Settings: one TOML file, each key also an environment variable. The environment is read here, and only here.

`kafka.bootstrap_servers` in the file is `PENSTOCK_KAFKA__BOOTSTRAP_SERVERS` in the environment, which wins.
A secret can come from a file, which wins as well: `PENSTOCK_ELASTICSEARCH__API_KEY_FILE=/run/secrets/key`.
What Kubernetes puts into every pod about a Service whose name begins with `penstock` is no setting of ours.
Credentials are not sent over a connection that is not encrypted, unless `allow_plaintext_credentials` says so.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeGuard, get_args

from platformdirs import user_cache_path
from pydantic import (
    AnyHttpUrl,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    UrlConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from streams.errors import ConfigError
from streams.mapping import Mapper, Rules
from streams.plan import METADATA

PREFIX = "PENSTOCK_"
CONFIG_VARIABLE = "PENSTOCK_CONFIG"
CACHE_VARIABLE = "PENSTOCK_CACHE_DIR"
FAIL_POINT_VARIABLE = "PENSTOCK_FAIL_POINT"
CLAIMS_TABLE = "claims"
"""Faust's table, by which its changelog topic is named."""
_OWN_VARIABLES = (CONFIG_VARIABLE, CACHE_VARIABLE, FAIL_POINT_VARIABLE)
_SECRETS = (
    ("elasticsearch", "api_key"),
    ("elasticsearch", "password"),
    ("kafka", "sasl_password"),
    ("kafka", "ssl_password"),
    ("source", "schema_registry.password"),
)
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

_WRITTEN_AS = {
    ("elasticsearch", "metadata_fields"): '{"year": "integer"}',
    ("source", "mapping.metadata"): '["team", "lang"]',
    ("source", "mapping.deleted_values"): '["archived"]',
}
"""Tables and lists, in the environment."""

_SERVICE_LINK = re.compile(
    rf"{PREFIX}(?:[A-Z0-9]+_)*?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9]+)*|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?|(?P<port>PORT))"
)
"""Variables that `enableServiceLinks` makes. https://kubernetes.io/docs/concepts/services-networking/service/"""
_LINK_VALUE = re.compile(r"(?:tcp|udp|sctp)://")

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_ALIAS = r"^[a-z0-9][a-z0-9._-]*$"
_FINGERPRINT = r"^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$"
_FIELD = r"^[a-z][a-z0-9_]*$"
_METADATA_FIELD = r"^[A-Za-z][A-Za-z0-9_-]*$"
_INTERVAL = r"^(-1|\d+(nanos|micros|ms|s|m|h|d))$"
_ALLOWED = {
    _NAME: "letters, digits, . _ and - only, and a letter or digit first",
    _ALIAS: "lower-case letters, digits, . _ and - only, and a letter or digit first",
    _FINGERPRINT: "the SHA-256 of a certificate is needed: 64 hex digits, with colons or without",
    _FIELD: "lower-case letters, digits and _ only, and a letter first",
    _METADATA_FIELD: "letters, digits, _ and - only, and a letter first",
    _INTERVAL: "a number with its unit is needed, such as 1s or 500ms; or -1, which is never",
}
"""By the pattern that a value does not match: what it may be, for people."""

HttpUrl = Annotated[AnyHttpUrl, UrlConstraints(allowed_schemes=["http", "https"])]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=_NAME)]


def cache_dir() -> Path:
    """Where models, the export environment and server downloads live; `PENSTOCK_CACHE_DIR` moves it."""
    return Path(os.environ.get(CACHE_VARIABLE) or user_cache_path("penstock"))


class Section(BaseModel):
    """A section of the settings: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    """How texts are split; part of the index contract."""

    max_chars: int = Field(1000, ge=16, le=100_000)
    overlap_chars: int = Field(100, ge=0)

    @model_validator(mode="after")
    def _less_than_a_chunk(self) -> Self:
        if self.overlap_chars >= self.max_chars:
            raise ValueError(
                f"split.overlap_chars ({self.overlap_chars}) must be less than split.max_chars ({self.max_chars}): a "
                "tenth of it is usual"
            )
        return self


class ModelSettings(Section):
    """Which exported model, and how it is run: unset or `auto`: what is fastest on this machine, measured once.

    `precision`: what an fp32 model is computed in. `threads`: cores that inference may use; unset: all usable ones.
    """

    name: Name = "all-MiniLM-L6-v2"
    dir: Path = Field(default_factory=lambda: cache_dir() / "models")
    provider: Literal["auto", "cuda", "openvino", "cpu"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int | None = Field(None, ge=1, le=1024)


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
    alias: Annotated[str, Field(pattern=_ALIAS, max_length=150)] = "documents"
    api_key: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None
    ca_certs: Path | None = None
    ssl_fingerprint: Annotated[str, Field(pattern=_FINGERPRINT)] | None = None
    allow_plaintext_credentials: bool = False
    text_field: Annotated[str, Field(pattern=_FIELD)] = "text"
    vector_field: Annotated[str, Field(pattern=_FIELD)] = "vector"
    metadata_fields: dict[Annotated[str, Field(pattern=_METADATA_FIELD)], MetadataType] = {}
    hnsw_type: Literal["hnsw", "int8_hnsw", "int4_hnsw", "bbq_hnsw"] = "int8_hnsw"
    hnsw_m: int = Field(16, ge=2, le=512)
    hnsw_ef_construction: int = Field(100, ge=1, le=3200)
    shards: int = Field(1, ge=1, le=1024)
    replicas: int = Field(1, ge=0, le=1024)
    refresh_interval: str = Field("1s", pattern=_INTERVAL)

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
            raise ValueError(f"{', '.join(ours)}: Penstock has a field of that name in every index: rename yours")
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


class Settings(BaseSettings):
    """All settings, validated. Made by `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, env_parse_none_str="none"
    )

    kafka: KafkaSettings = KafkaSettings()
    source: SourceSettings = SourceSettings()
    split: SplitSettings = SplitSettings()
    model: ModelSettings = Field(default_factory=ModelSettings)
    batch: BatchSettings = BatchSettings()
    elasticsearch: ElasticsearchSettings = ElasticsearchSettings()
    delivery: DeliverySettings = DeliverySettings()
    dead_letters: DeadLetterSettings = DeadLetterSettings()
    admin: AdminSettings = AdminSettings()
    lifecycle: LifecycleSettings = LifecycleSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _letters_apart(self) -> Self:
        letters, source = self.dead_letter_topic, self.source
        if letters == source.topic:
            raise ValueError(
                f"dead_letters.topic and source.topic are both {letters}: a dead letter would be read as a record, and "
                "rejected, again and again; give it a topic of its own"
            )
        if letters == self.changelog_topic:
            raise ValueError(
                f"dead_letters.topic is {letters}, where the claims of source.group = {source.group} are: give it a "
                "topic of its own"
            )
        return self

    @property
    def changelog_topic(self) -> str:
        """Of the claims, as Faust names it."""
        return f"{self.source.group}-{CLAIMS_TABLE}-changelog"

    @property
    def dead_letter_topic(self) -> str:
        """The dead-letter topic in effect."""
        return self.dead_letters.topic or f"{self.source.topic}.dlq"

    @property
    def sources_topic(self) -> str:
        """What was published of each source."""
        return f"{self.source.topic}.sources"

    @property
    def model_folder(self) -> Path:
        """Where the chosen model's files are."""
        return self.model.dir / self.model.name

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment before file; the file arrives as keyword arguments, and so do secrets from files."""
        assert isinstance(env_settings, EnvSettingsSource)  # noqa: S101 - pydantic-settings' own
        files = {_file_variable(*name).lower() for name in _SECRETS}
        env_settings.env_vars = {n: v for n, v in env_settings.env_vars.items() if n.lower() not in files}
        return env_settings, init_settings


def with_model(settings: Settings, name: str) -> Settings:
    """The same settings with another model."""
    return settings.model_copy(update={"model": settings.model.model_copy(update={"name": name})})


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a setting's value came from: `default`, `environment NAME` or `file PATH`."""

    name: str
    value: str
    source: str


def load_settings(path: Path | None = None) -> Settings:
    """Read file and environment. Raises ConfigError naming every wrong setting, its source and the fix."""
    path = path or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    raw = _read_toml(path) if path else {}
    _check_variables(os.environ)
    for (section, name), value in _secret_files(os.environ):
        *inner, last = name.split(".")
        values = raw.setdefault(section, {})
        for one in inner:
            values = values.setdefault(one, {}) if isinstance(values, dict) else None
        if isinstance(values, dict):
            values[last] = value
    try:
        return Settings(**raw)
    except SettingsError as exc:
        raise ConfigError(_no_json(os.environ) or str(exc)) from None
    except ValidationError as exc:
        raise ConfigError("\n".join(_explain(error, path) for error in exc.errors())) from None


def origins(settings: Settings, path: Path | None = None) -> Iterator[Origin]:
    """Every setting with its effective value (secrets masked) and where it came from."""
    path = path or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    raw = _read_toml(path) if path else {}
    for section in Settings.model_fields:
        yield from _origins(section, getattr(settings, section), raw.get(section, {}), path)


def _origins(section: str, values: Section, raw: dict[str, Any], path: Path | None) -> Iterator[Origin]:
    for name, value in values:
        if isinstance(value, Section):
            yield from _origins(f"{section}.{name}", value, raw.get(name, {}), path)
            continue
        source = f"file {path}" if name in raw else "default"
        if variable := _set_by(section, name):
            source = f"environment {variable}"
        yield Origin(name=f"{section}.{name}", value="" if value is None else str(value), source=source)


def fail_point() -> str:
    """Name of the fail point to die at (tests only), or the empty string."""
    return os.environ.get(FAIL_POINT_VARIABLE, "")


def _variable(section: str, name: str) -> str:
    return f"{PREFIX}{section}__{name}".replace(".", "__").upper()


def _file_variable(section: str, name: str) -> str:
    return _variable(section, name) + "_FILE"


def _in_environment(environ: Mapping[str, str], variable: str) -> str | None:
    """The value of a variable, in whatever case its name is written; None when it is not set."""
    return next((value for name, value in environ.items() if name.upper() == variable), None)


def _set_by(section: str, name: str) -> str | None:
    """The variable that a setting comes from; None when it does not come from the environment."""
    if _in_environment(os.environ, variable := _variable(section, name)) is not None:
        return variable
    from_file = _file_variable(section, name)
    return from_file if (section, name) in _SECRETS and _in_environment(os.environ, from_file) else None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"the settings file {path} cannot be read: {exc.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the settings file {path} is not TOML: {exc}") from None


def _secret_files(environ: Mapping[str, str]) -> Iterator[tuple[tuple[str, str], str]]:
    for name in _SECRETS:
        variable = _file_variable(*name)
        if not (file := _in_environment(environ, variable)):
            continue
        if _in_environment(environ, _variable(*name)) is not None:
            raise ConfigError(f"{_variable(*name)} and {variable} are both set: which one counts? Unset the other")
        try:
            secret = Path(file).read_text(encoding="utf-8").strip()
        except OSError as exc:
            raise ConfigError(f"{variable} names {file}, which cannot be read: {exc.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{variable} names {file}, which is not UTF-8 text") from None
        if not secret:
            raise ConfigError(f"{variable} names {file}, which is empty")
        yield name, secret


def _known_names(model: type[BaseModel] | None = None, before: str = "") -> Iterator[str]:
    """Every setting, with its sections."""
    for name, field in (model or Settings).model_fields.items():
        sections = [one for one in (field.annotation, *get_args(field.annotation)) if _is_section(one)]
        if not sections:
            yield before + name
        for section in sections:
            yield from _known_names(section, f"{before}{name}.")


def _is_section(kind: Any) -> TypeGuard[type[Section]]:
    return isinstance(kind, type) and issubclass(kind, Section)


def _check_variables(environ: Mapping[str, str]) -> None:
    """pydantic-settings passes over variables of unknown sections; a typing mistake must not be silent."""
    known = {_variable(*name.split(".", 1)) for name in _known_names()}
    known |= {_file_variable(*name) for name in _SECRETS} | set(_OWN_VARIABLES)
    for variable, value in sorted(environ.items()):
        ours = variable.upper().startswith(PREFIX) and not _is_service_link(variable, value)
        if ours and variable.upper() not in known:
            near = difflib.get_close_matches(variable.upper(), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"environment variable {variable}: there is no such setting{hint}")


def _no_json(environ: Mapping[str, str]) -> str | None:
    """Which variable of a table or a list cannot be read, and how it is written."""
    for (section, name), example in _WRITTEN_AS.items():
        variable = _variable(section, name)
        try:
            json.loads(_in_environment(environ, variable) or "null")
        except ValueError as exc:
            return f"environment {variable} is not JSON ({exc}); it is written as '{example}' there"
    return None


def _is_service_link(variable: str, value: str) -> bool:
    """Whether Kubernetes made it. `PENSTOCK_ADMIN_PORT=9464` is a typing mistake: a Service's begins with `tcp://`."""
    found = _SERVICE_LINK.fullmatch(variable)
    return found is not None and (found["port"] is None or _LINK_VALUE.match(value) is not None)


def _explain(error: Any, path: Path | None) -> str:
    name = ".".join(str(part) for part in error["loc"])
    section, _, key = name.partition(".")
    where = _set_by(section, key) or path or "the settings"
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, [*_known_names(), *Settings.model_fields], n=1)
        return f"{where}: there is no setting {name}" + (f"; did you mean {near[0]}?" if near else "")
    if not key:  # of a whole section, with its secrets
        return f"{path or 'the settings'}: {error['msg'].removeprefix('Value error, ')}"
    told = _ALLOWED.get(error.get("ctx", {}).get("pattern"), error["msg"].removeprefix("Value error, "))
    secret = (section, key) in _SECRETS or re.search("[@?]", str(error["input"]))  # of a URL, where a secret may be
    given = "" if secret else f" (given: {error['input']!r})"
    return f"{where}: {name}: {told}{given}"

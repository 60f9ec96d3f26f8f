"""Settings: one TOML file, each key also an environment variable, which wins over it.

In `sections` is what the file may say, in `environment` how the same is said there, in `mistakes` what is said of one
that is wrong. `loading` makes `Settings` of it all.
"""

import re
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from agents.settings.environment import PREFIX, SECRETS, file_variable
from agents.settings.sections import (
    AdminSettings,
    BatchSettings,
    BudgetSettings,
    CostSettings,
    DeadLetterSettings,
    DeliverySettings,
    ElasticsearchSettings,
    KafkaSettings,
    LifecycleSettings,
    LogSettings,
    ModelSettings,
    QualitySettings,
    RouteSettings,
    ServiceSettings,
    SourceSettings,
    SplitSettings,
)
from streams import document_vector
from streams.errors import ConfigError
from streams.routes import DEFAULT

CLAIMS_TABLE = "claims"
"""Faust's table, by which its changelog topic is named."""


class Settings(BaseSettings):
    """All settings, validated. Made by `loading.load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, env_parse_none_str="none"
    )

    kafka: KafkaSettings = KafkaSettings()
    source: SourceSettings = SourceSettings()
    split: SplitSettings = SplitSettings()
    quality: QualitySettings = QualitySettings()
    model: ModelSettings = Field(default_factory=ModelSettings)
    service: ServiceSettings = ServiceSettings()
    route: tuple[RouteSettings, ...] = ()
    batch: BatchSettings = BatchSettings()
    cost: CostSettings = CostSettings()
    budget: BudgetSettings = BudgetSettings()
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

    @model_validator(mode="after")
    def _a_field_for_each_model(self) -> Self:
        self.require_a_field_for_each_model()
        return self

    def require_a_field_for_each_model(self) -> None:
        """Vectors of two models never share one, and a route's name tells it apart. Raises ValueError."""
        names = [route.name for route in self.route]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two routes have the name {twice[0]}")
        models, es = {self.elasticsearch.vector_field: self.model.name}, self.elasticsearch
        for route in self.route:
            field = self.vector_of(route)
            if models.setdefault(field, route.model) != route.model:
                raise ValueError(
                    f"route {route.name}: the field {field} has vectors of {models[field]}, and those of two models do "
                    "not compare: give it another `vector`"
                )
        taken = {es.text_field, document_vector.FIELD, "metadata", "penstock"}
        taken |= {document_vector.field_beside(field) for field in models}
        for route in self.route:
            if (field := self.vector_of(route)) in taken:
                raise ValueError(f"route {route.name}: Penstock has a field {field}: give it another `vector`")
        for model in sorted(set(models.values())):
            if len(found := sorted(field for field, of in models.items() if of == model)) > 1:
                raise ValueError(
                    f"{model} has two fields, {' and '.join(found)}: one is enough; leave `vector` of its routes out, "
                    "or give them the same"
                )

    def vector_of(self, route: RouteSettings) -> str:
        """The field of its vectors."""
        if route.vector is not None:
            return route.vector
        field = self.elasticsearch.vector_field
        return field if route.model == self.model.name else f"{field}_{re.sub('[^a-z0-9]+', '_', route.model.lower())}"

    @property
    def model_by_route(self) -> dict[str, str]:
        """Names of models, by those of routes; the default one is among them."""
        return {DEFAULT: self.model.name} | {route.name: route.model for route in self.route}

    @property
    def models(self) -> tuple[str, ...]:
        """Names of all that are in use, the default one first."""
        return tuple(dict.fromkeys([self.model.name, *(route.model for route in self.route)]))

    @model_validator(mode="after")
    def _budget_of_something(self) -> Self:
        if self.budget.per_day is not None and not self.cost.models:
            raise ValueError(
                "budget.per_day is set, and nothing has a price: [cost.models.NAME] with million_tokens, request, "
                "core_hour or gpu_hour"
            )
        refuge, routes = self.budget.refuge, self.model_by_route
        if refuge is not None and refuge not in routes:
            raise ValueError(f"budget.then: there is no route {refuge}; there is {', '.join(routes)}")
        if refuge is not None and len(self.models) == 1:
            raise ValueError(f"budget.then: all routes are to {self.model.name}, so that {refuge} costs the same")
        return self

    @property
    def counts_costs(self) -> bool:
        """Whether anything has a price."""
        return bool(self.cost.models)

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
        files = {file_variable(*name).lower() for name in SECRETS}
        env_settings.env_vars = {n: v for n, v in env_settings.env_vars.items() if n.lower() not in files}
        return env_settings, init_settings


def with_model(settings: Settings, name: str) -> Settings:
    """The same settings with another model."""
    return settings.model_copy(update={"model": settings.model.model_copy(update={"name": name})})


def with_model_for_all(settings: Settings, name: str) -> Settings:
    """The same settings with another model, for an index: raises ConfigError where its routes do not go with it."""
    chosen = with_model(settings, name)
    try:
        chosen.require_a_field_for_each_model()
    except ValueError as exc:
        raise ConfigError(f"--model {name}: {exc}") from exc
    return chosen

"""Settings: one TOML file, each key also an environment variable, which wins over it.

In `sections` is what the file may say, in `environment` how the same is said there, in `mistakes` what is said of one
that is wrong. `loading` makes `Settings` of it all.
"""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from agents.settings.environment import PREFIX, SECRETS, file_variable
from agents.settings.sections import (
    AdminSettings,
    BatchSettings,
    DeadLetterSettings,
    DeliverySettings,
    ElasticsearchSettings,
    KafkaSettings,
    LifecycleSettings,
    LogSettings,
    ModelSettings,
    QualitySettings,
    ServiceSettings,
    SourceSettings,
    SplitSettings,
)

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
        files = {file_variable(*name).lower() for name in SECRETS}
        env_settings.env_vars = {n: v for n, v in env_settings.env_vars.items() if n.lower() not in files}
        return env_settings, init_settings


def with_model(settings: Settings, name: str) -> Settings:
    """The same settings with another model."""
    return settings.model_copy(update={"model": settings.model.model_copy(update={"name": name})})

"""Settings are made: of the file, of the environment, which wins, and of files with secrets. And told, for people."""

import json
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from agents.settings import Settings
from agents.settings.environment import config_file, secret_files, set_by
from agents.settings.mistakes import check_variables, explain, no_json
from agents.settings.sections import Section
from streams.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a setting's value came from: `default`, `environment NAME` or `file PATH`."""

    name: str
    value: str
    source: str


def load_settings(path: Path | None = None) -> Settings:
    """Read file and environment. Raises ConfigError naming every wrong setting, its source and the fix."""
    path = path or config_file()
    raw = _read_toml(path) if path else {}
    check_variables(os.environ)
    for (section, name), value in secret_files(os.environ):
        *inner, last = name.split(".")
        values = raw.setdefault(section, {})
        for one in inner:
            values = values.setdefault(one, {}) if isinstance(values, dict) else None
        if isinstance(values, dict):
            values[last] = value
    try:
        return Settings(**raw)
    except SettingsError as exc:
        raise ConfigError(no_json(os.environ) or str(exc)) from None
    except ValidationError as exc:
        raise ConfigError("\n".join(explain(error, path) for error in exc.errors())) from None


def origins(settings: Settings, path: Path | None = None) -> Iterator[Origin]:
    """Every setting with its effective value (secrets masked) and where it came from."""
    path = path or config_file()
    raw = _read_toml(path) if path else {}
    for section in Settings.model_fields:
        values = getattr(settings, section)
        if isinstance(values, tuple):  # of tables
            variable = set_by(section, "")
            source = f"environment {variable}" if variable else f"file {path}" if section in raw else "default"
            for number, one in enumerate(values, 1):
                told = one.model_dump(mode="json", exclude_defaults=True)
                yield Origin(name=f"{section}.{number}", value=json.dumps(told, ensure_ascii=False), source=source)
        else:
            yield from _origins(section, values, raw.get(section, {}), path)


def _origins(section: str, values: Section, raw: dict[str, Any], path: Path | None) -> Iterator[Origin]:
    for name, value in values:
        if isinstance(value, Section):
            yield from _origins(f"{section}.{name}", value, raw.get(name, {}), path)
            continue
        source = f"file {path}" if name in raw else "default"
        if variable := set_by(section, name):
            source = f"environment {variable}"
        yield Origin(name=f"{section}.{name}", value="" if value is None else str(value), source=source)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"the settings file {path} cannot be read: {exc.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the settings file {path} is not TOML: {exc}") from None

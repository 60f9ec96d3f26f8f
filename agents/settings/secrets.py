"""Secrets stay where they are: settings travel to other machines without them, and are completed there."""

import os
from typing import Any

from pydantic import SecretStr

from agents.settings import Settings
from agents.settings.environment import SECRETS, file_variable, in_environment, secret_files, variable_of


def without_secrets(settings: Settings) -> Settings:
    """As they may travel."""
    for section, name in SECRETS:
        settings = _with(settings, section, name, None)
    return settings


def with_secrets(settings: Settings) -> Settings:
    """With those of this process's environment, or of files that it names. Raises ConfigError as `secret_files`."""
    found = dict(secret_files(os.environ))
    for section, name in SECRETS:
        value = in_environment(os.environ, variable_of(section, name)) or found.get((section, name))
        if value:
            settings = _with(settings, section, name, SecretStr(value))
    return settings


def give_to_children(settings: Settings) -> None:
    """Into the environment that processes of this machine inherit."""
    for section, name in SECRETS:
        secret = _get(settings, section, name)
        if secret is not None and not in_environment(os.environ, file_variable(section, name)):
            os.environ[variable_of(section, name)] = secret.get_secret_value()


def _get(settings: Settings, section: str, name: str) -> Any:
    value: Any = getattr(settings, section)
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def _with(one: Any, section: str, name: str, value: SecretStr | None) -> Any:
    """A copy; the same where a part of the way is not there."""
    inner = getattr(one, section)
    if inner is None:
        return one
    first, _, rest = name.partition(".")
    changed = _with(inner, first, rest, value) if rest else inner.model_copy(update={first: value})
    return one.model_copy(update={section: changed})

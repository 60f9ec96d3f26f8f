"""What is said of a setting that is wrong: where it stands, its name, what it may be, and the nearest known name."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard, get_args, get_origin

from pydantic import BaseModel

from agents.settings import Settings
from agents.settings.environment import (
    OWN_VARIABLES,
    PREFIX,
    SECRETS,
    file_variable,
    in_environment,
    is_service_link,
    set_by,
    variable_of,
)
from agents.settings.sections import (
    ALIAS,
    FIELD,
    FINGERPRINT,
    INTERVAL,
    METADATA_FIELD,
    NAME,
    THEN,
    RouteSettings,
    Section,
)
from streams.errors import ConfigError

_WRITTEN_AS = {
    ("elasticsearch", "metadata_fields"): '{"year": "integer"}',
    ("source", "mapping.metadata"): '["team", "lang"]',
    ("source", "mapping.deleted_values"): '["archived"]',
    ("quality", "reject"): '["mojibake", "base64"]',
    ("service", "models"): '{"other": {"key_file": "/run/secrets/other"}}',
    ("route", ""): '[{"name": "short", "model": "fast", "max_chars": 500}]',
    ("cost", "models"): '{"small": {"million_tokens": 0.02}}',
}
"""Tables and lists, in the environment."""
_ANY_LIST = '["this", "that"]'

ALLOWED = {
    NAME: "letters, digits, . _ and - only, and a letter or digit first",
    ALIAS: "lower-case letters, digits, . _ and - only, and a letter or digit first",
    FINGERPRINT: "the SHA-256 of a certificate is needed: 64 hex digits, with colons or without",
    FIELD: "lower-case letters, digits and _ only, and a letter first",
    METADATA_FIELD: "letters, digits, _ and - only, and a letter first",
    THEN: "pause, alert, or route:NAME is needed",
    INTERVAL: "a number with its unit is needed, such as 1s or 500ms; or -1, which is never",
}
"""By the pattern that a value does not match: what it may be, for people."""


def explain(error: Any, path: Path | None) -> str:
    """One of pydantic's errors, in a line; never with a secret. `path`: the file that was read."""
    name = ".".join(
        str(part + 1 if place == 1 and isinstance(part, int) else part) for place, part in enumerate(error["loc"])
    )
    section, _, key = name.partition(".")
    where = set_by(section, "" if section == "route" else key) or path or "the settings"
    if error["type"] == "extra_forbidden":
        known: Iterable[str] = _known_tables() if isinstance(error["input"], dict) else _known_names()
        if section == "route":
            known = [f"{name.rpartition('.')[0]}.{own}" for own in RouteSettings.model_fields]
        near = difflib.get_close_matches(name, list(known), n=1)
        return f"{where}: there is no setting {name}" + (f"; did you mean {near[0]}?" if near else "")
    if not key and section != "route":  # of a whole section, with its secrets
        return f"{path or 'the settings'}: {error['msg'].removeprefix('Value error, ')}"
    if error["type"] == "model_type" and section == "route":
        error = {**error, "msg": f"a table is needed, as in {_WRITTEN_AS['route', '']}"}
    if error["type"] == "tuple_type":
        error = {**error, "msg": f"a list is needed, such as {_WRITTEN_AS.get((section, key), _ANY_LIST)}"}
    told = ALLOWED.get(error.get("ctx", {}).get("pattern"), error["msg"].removeprefix("Value error, "))
    secret = (section, key) in SECRETS or re.search("[@?]", str(error["input"]))  # of a URL, where a secret may be
    given = "" if secret else f" (given: {error['input']!r})"
    return f"{where}: {name}: {told}{given}"


def check_variables(environ: Mapping[str, str]) -> None:
    """Raises ConfigError naming a variable that sets nothing: pydantic-settings passes over unknown sections."""
    known = {variable_of(section, key) for section, _, key in (name.partition(".") for name in _known_names())}
    known |= {file_variable(*name) for name in SECRETS} | set(OWN_VARIABLES)
    for variable, value in sorted(environ.items()):
        ours = variable.upper().startswith(PREFIX) and not is_service_link(variable, value)
        if ours and variable.upper() not in known:
            near = difflib.get_close_matches(variable.upper(), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"environment variable {variable}: there is no such setting{hint}")


def no_json(environ: Mapping[str, str]) -> str | None:
    """Which variable of a table or a list cannot be read, and how it is written."""
    for (section, name), example in _WRITTEN_AS.items():
        variable = variable_of(section, name)
        try:
            json.loads(in_environment(environ, variable) or "null")
        except ValueError as exc:
            return f"environment {variable} is not JSON ({exc}); it is written as '{example}' there"
    return None


def _known_names(model: type[BaseModel] | None = None, before: str = "") -> Iterator[str]:
    """Every setting, with its sections."""
    for name, field in (model or Settings).model_fields.items():
        kinds = (field.annotation, *(() if _are_several(field.annotation) else get_args(field.annotation)))
        sections = [one for one in kinds if _is_section(one)]
        if not sections:
            yield before + name
        for section in sections:
            yield from _known_names(section, f"{before}{name}.")


def _known_tables() -> set[str]:
    """Every section, with those that it is in."""
    return {name[: dot.start()] for name in _known_names() for dot in re.finditer(r"\.", name)}


def _are_several(kind: Any) -> bool:
    """Whether it is of several tables, such as `[[route]]` or `[service.models.NAME]`."""
    return get_origin(kind) in (tuple, dict)


def _is_section(kind: Any) -> TypeGuard[type[Section]]:
    return isinstance(kind, type) and issubclass(kind, Section)

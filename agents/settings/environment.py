"""The environment, which is read here: names of variables, secrets in files, and what is none of ours.

`kafka.bootstrap_servers` is `PENSTOCK_KAFKA__BOOTSTRAP_SERVERS`; a secret can come from a file, which
`PENSTOCK_ELASTICSEARCH__API_KEY_FILE=/run/secrets/key` names. Names of variables are read in whatever case.
What Kubernetes puts into every pod about a Service whose name begins with `penstock` is no setting of ours.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from platformdirs import user_cache_path

from streams.errors import ConfigError

PREFIX = "PENSTOCK_"
CONFIG_VARIABLE = "PENSTOCK_CONFIG"
CACHE_VARIABLE = "PENSTOCK_CACHE_DIR"
FAIL_POINT_VARIABLE = "PENSTOCK_FAIL_POINT"
OWN_VARIABLES = (CONFIG_VARIABLE, CACHE_VARIABLE, FAIL_POINT_VARIABLE)
SECRETS = (
    ("elasticsearch", "api_key"),
    ("elasticsearch", "password"),
    ("kafka", "sasl_password"),
    ("kafka", "ssl_password"),
    ("source", "schema_registry.password"),
)

_SERVICE_LINK = re.compile(
    rf"{PREFIX}(?:[A-Z0-9]+_)*?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9]+)*|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?|(?P<port>PORT))"
)
"""Variables that `enableServiceLinks` makes. https://kubernetes.io/docs/concepts/services-networking/service/"""
_LINK_VALUE = re.compile(r"(?:tcp|udp|sctp)://")


def cache_dir() -> Path:
    """Where models, the export environment and server downloads live; `PENSTOCK_CACHE_DIR` moves it."""
    return Path(os.environ.get(CACHE_VARIABLE) or user_cache_path("penstock"))


def fail_point() -> str:
    """Name of the fail point to die at (tests only), or the empty string."""
    return os.environ.get(FAIL_POINT_VARIABLE, "")


def config_file() -> Path | None:
    """The file of settings that `PENSTOCK_CONFIG` names."""
    return Path(path) if (path := os.environ.get(CONFIG_VARIABLE)) else None


def variable_of(section: str, name: str) -> str:
    """The name of the variable that sets it; without a name of a list of tables, such as `route`."""
    return f"{PREFIX}{section}__{name}".replace(".", "__").upper().removesuffix("__")


def file_variable(section: str, name: str) -> str:
    """The name of the variable that names a file with it."""
    return variable_of(section, name) + "_FILE"


def in_environment(environ: Mapping[str, str], variable: str) -> str | None:
    """The value of a variable, in whatever case its name is written; None when it is not set."""
    return next((value for name, value in environ.items() if name.upper() == variable), None)


def set_by(section: str, name: str) -> str | None:
    """The variable that a setting comes from; None when it does not come from the environment."""
    if in_environment(os.environ, variable := variable_of(section, name)) is not None:
        return variable
    from_file = file_variable(section, name)
    return from_file if (section, name) in SECRETS and in_environment(os.environ, from_file) else None


def secret_files(environ: Mapping[str, str]) -> Iterator[tuple[tuple[str, str], str]]:
    """Section, name and value of each secret that comes from a file. Raises ConfigError for one that gives none."""
    for name in SECRETS:
        variable = file_variable(*name)
        if not (file := in_environment(environ, variable)):
            continue
        if in_environment(environ, variable_of(*name)) is not None:
            raise ConfigError(f"{variable_of(*name)} and {variable} are both set: which one counts? Unset the other")
        try:
            secret = Path(file).read_text(encoding="utf-8").strip()
        except OSError as exc:
            raise ConfigError(f"{variable} names {file}, which cannot be read: {exc.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{variable} names {file}, which is not UTF-8 text") from None
        if not secret:
            raise ConfigError(f"{variable} names {file}, which is empty")
        yield name, secret


def is_service_link(variable: str, value: str) -> bool:
    """Whether Kubernetes made it. `PENSTOCK_ADMIN_PORT=9464` is a typing mistake: a Service's begins with `tcp://`."""
    found = _SERVICE_LINK.fullmatch(variable)
    return found is not None and (found["port"] is None or _LINK_VALUE.match(value) is not None)

"""What comes with an extra of the package alone."""

from collections.abc import Iterator
from contextlib import contextmanager

from streams.errors import ConfigError


def brought_by(extra: str) -> str:
    """The end of a message about what is missing. No index of packages has Penstock: a checkout is what there is."""
    return f"`pip install '.[{extra}]'` in the checkout brings it"


@contextmanager
def importing(extra: str) -> Iterator[None]:
    """Around imports of what comes with it. Raises ConfigError where it is missing."""
    try:
        yield
    except ModuleNotFoundError as exc:
        raise ConfigError(f"{exc.name} is missing: {brought_by(extra)}") from exc

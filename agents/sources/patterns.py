"""Which objects of a source are looked at: by patterns over their paths in it.

A pattern is held against the whole path, folder by folder: `*`, `?` and `[a-z]` stay within a folder, `**` is any
number of folders, none included, and at the end all that is below. One without a slash is held against the name alone,
in whatever folder; a slash at its beginning keeps it to the top, one at its end stands for `/**`. Case counts, and a
dot at the beginning is a character like any other.
"""

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

from agents.sources import PassedOver
from streams.errors import ConfigError

ANY = "**"
NOTHING = "(?!)"
"""What Python makes of a bracket that no character matches."""
EXCLUDED = PassedOver(kind="excluded")
"""An object, or a folder that nobody goes into."""


class Pattern:
    """One of them. Takes time in proportion to pattern times path, whatever is in them."""

    def __init__(self, glob: str) -> None:
        """Raises ConfigError for what matches nothing, or has a bracket that nothing closes."""
        plain = glob.removeprefix("/")
        if not plain.strip("/"):
            raise ConfigError(f"--include or --exclude {glob!r}: a pattern such as '*.tmp' or 'drafts/**' is needed")
        if wrong := next(filter(None, map(_why_not, plain.split("/"))), None):
            raise ConfigError(f"--include or --exclude {glob!r}: {wrong}")
        below = plain.endswith("/")
        names = (plain.rstrip("/") if below else plain).split("/")
        if len(names) == 1 and not glob.startswith("/"):
            names.insert(0, ANY)
        if below:
            names.append(ANY)
        self._folder = _compiled(names[:-1]) if names[-1] == ANY else None
        self._names = _compiled([*names, "*"] if names[-1] == ANY else names)

    def matches(self, path: str) -> bool:
        """Whether it is one of these."""
        return _match(self._names, path.split("/"))

    def matches_below(self, folder: str) -> bool:
        """Whether all that is below a folder is among these, as far as can be told without a look."""
        if not self._folder:
            return False
        names = folder.split("/")
        return any(_match(self._folder, names[:count]) for count in range(1, len(names) + 1))


@dataclass(frozen=True, slots=True)
class Patterns:
    """An object is looked at when one of `include` matches, or there is none, and none of `exclude` does."""

    include: tuple[Pattern, ...] = ()
    exclude: tuple[Pattern, ...] = ()

    def takes(self, path: str) -> bool:
        """Whether an object is looked at. `path`: relative to its source."""
        return not any(one.matches(path) for one in self.exclude) and (
            not self.include or any(one.matches(path) for one in self.include)
        )

    def enters(self, folder: str) -> bool:
        """Whether anything below a folder may be. `folder`: relative, without a slash at its end."""
        return not any(one.matches_below(folder) for one in self.exclude)


def patterns(include: Sequence[str], exclude: Sequence[str]) -> Patterns:
    """Of an option's values. Raises ConfigError."""
    return Patterns(tuple(map(Pattern, include)), tuple(map(Pattern, exclude)))


def _why_not(name: str) -> str | None:
    """What is wrong with a part of a pattern; None where nothing is."""
    at = 0
    while (begin := name.find("[", at)) >= 0:
        first = begin + 2 if name[begin + 1 : begin + 2] == "!" else begin + 1
        end = name.find("]", first + 1)  # one at the very beginning stands for itself
        if end < 0:
            return f"the `[` in {name!r} has no `]` behind it; `[[]` is the character itself"
        at = end + 1
    if NOTHING in fnmatch.translate(name):
        return f"no name matches {name!r}: a range such as `[a-z]` goes upwards"
    return None


def _compiled(names: Sequence[str]) -> list[re.Pattern[str] | None]:
    """None for `**`. Python's translation of a name never goes back over what it has matched."""
    return [None if name == ANY else re.compile(fnmatch.translate(name)) for name in names]


def _match(wanted: Sequence[re.Pattern[str] | None], names: Sequence[str]) -> bool:
    """Every place in the pattern that may be reached, name by name."""
    places = _and_none(wanted, {0})
    for name in names:
        reached = set()
        for place in places:
            if place < len(wanted):
                one = wanted[place]
                if one is None:
                    reached.add(place)
                elif one.match(name):
                    reached.add(place + 1)
        places = _and_none(wanted, reached)
    return len(wanted) in places


def _and_none(wanted: Sequence[re.Pattern[str] | None], places: set[int]) -> set[int]:
    """With those behind a `**` that stands for no folder."""
    found = set(places)
    for place in sorted(places):
        while place < len(wanted) and wanted[place] is None:
            place += 1
            found.add(place)
    return found

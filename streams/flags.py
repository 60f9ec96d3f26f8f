"""Words for what is wrong with a text, and what is told of a document. They are stored, and never renamed."""

from dataclasses import dataclass
from typing import Literal, get_args

Flag = Literal["mojibake", "replacement", "control", "boilerplate", "short", "symbols", "base64", "minified"]
FLAGS: tuple[Flag, ...] = get_args(Flag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is told of a document's text. `flags`: of each of its chunks, in the order of `FLAGS`.

    `language`: its tag, such as `en`. `signature`: as `streams.likeness` has it. Each None where it cannot be told.
    """

    flags: tuple[tuple[Flag, ...], ...] = ()
    language: str | None = None
    signature: str | None = None

    def of(self, number: int) -> tuple[Flag, ...]:
        """Flags of a chunk; none where nothing is wrong."""
        return self.flags[number] if self.flags else ()


NOTHING = Verdict()
"""Of a document without text."""

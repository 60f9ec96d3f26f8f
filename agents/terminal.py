"""Text for a terminal: that of others made safe, as keys, values and messages may hold what a terminal would obey.

Escape sequences (C0, C1) can move the cursor, set the title, or answer in the user's name; marks of writing direction
show a text in another order than it has. They are printed as `\\x1b` and `\\u202e`; in JSON its own way.
"""

import re

_DANGEROUS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_IN_TEXT = re.compile(f"[{_DANGEROUS}]")
_IN_LINE = re.compile(f"[{_DANGEROUS}\t\n]")

LONGEST_WORD = 24
"""Characters; what is longer is cut where it must be."""


def shown(text: str) -> str:
    """For people; line breaks and tabs stay."""
    return _IN_TEXT.sub(_escape, text)


def in_line(text: str) -> str:
    """For people, where a line break would look like another row."""
    return _IN_LINE.sub(_escape, text)


def in_short(text: str, most: int) -> str:
    """As `in_line`, so many characters of it at most; cut between words where one ends near."""
    text = in_line(text[: most + 1])
    if len(text) <= most:
        return text
    words = text[:most].rpartition(" ")[0].rstrip()
    return (words if len(words) >= most - LONGEST_WORD else text[: most - 1]) + "…"


def in_json(text: str) -> str:
    """JSON that means the same: what is dangerous is inside its strings, in JSON's own escapes."""
    return _IN_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def counted(count: int, what: str) -> str:
    """`1 record`, `2 records`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def _escape(found: "re.Match[str]") -> str:
    code = ord(found[0])
    named = {9: "\\t", 10: "\\n", 13: "\\r"}
    return named.get(code) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")

"""RTF (Microsoft's specification 1.9.1): its text, and what its information group says.

It has no sections: which paragraphs are headings is told by its style sheet, which the library does not read.
"""

import re
from collections.abc import Callable
from pathlib import Path

from agents.sources.convert import ConversionError, Converted
from agents.sources.convert.builder import Builder, iso

BEGINS = b"{\\rtf"
HEAD_CHARS = 64 * 1024
"""In which the information group is."""
BINARY = re.compile(rb"\\bin([a-z]*)(\d{0,9}) ?")
"""Raw bytes, and words that the library takes for them (`\\binfsxn`: a printer's tray)."""
CREATED = re.compile(r"\{\\creatim\\yr(\d+)\\mo(\d+)\\dy(\d+)(?:\\hr(\d+))?(?:\\min(\d+))?")


def rtf(path: Path) -> Converted:
    """Paragraph by paragraph, a row of a table in a line. Raises ConversionError for a file that is none."""
    raw = path.read_bytes()
    if not raw.startswith(BEGINS):
        raise ConversionError("no valid .rtf: it does not begin as one, with {\\rtf")
    # bytes that are not ASCII, which should not be there, in the form in which the library decodes them
    text = re.sub(rb"[\x80-\xff]", lambda found: b"\\'%02x" % ord(found[0]), _without_binary(raw)).decode("ascii")
    built = Builder()
    for paragraph in re.split(r"\n\s*\n", _plain(text)):
        built.add(paragraph)
    head = text[:HEAD_CHARS]
    page = re.search(r"\\ansicpg\d+", head)
    told = {}
    for name in ("title", "author"):
        if found := re.search(rf"\{{\\{name} ((?:[^{{}}\\]|\\.)*)\}}", head, re.DOTALL):
            told[name] = _plain(f"{{\\rtf1\\ansi{page[0] if page else ''} {found[1]}}}")
    return built.built(**told, timestamp=_created(head))


def _plain(text: str) -> str:
    from striprtf.striprtf import rtf_to_text

    read: Callable[..., str] = rtf_to_text
    found = read(text, errors="replace").replace("\xad", "").replace("\0", "")
    return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # it writes characters in halves


def _created(head: str) -> str | None:
    found = CREATED.search(head)
    if not found:
        return None
    year, month, day, hour, minute = (int(part or 0) for part in found.groups())
    return iso(f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}")


def _without_binary(raw: bytes) -> bytes:
    kept, at = list[bytes](), 0
    while found := BINARY.search(raw, at):
        kept.append(raw[at : found.start()])
        at = found.end() + (int(found[2] or 0) if not found[1] else 0)
    return b"".join([*kept, raw[at:]])

"""Bytes of HTML to its characters."""

import codecs
import re

from agents.sources.convert import ConversionError

PACKED = b"\x1f\x8b"
"""How gzip begins."""
REPLACED = "\ufffd"
SNIFFED_BYTES = 1024
"""In which a page says how it is encoded (HTML, 13.2.3.2)."""
CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)


def decoded(raw: bytes, charset: str | None) -> str:
    """By its mark, what the server says, or what it says itself; else UTF-8.

    Raises ConversionError for what is packed, and for bytes of something else.
    """
    if raw.startswith(PACKED):
        raise ConversionError("it is packed with gzip: a name that ends with .gz says so")
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if raw.startswith(mark):
            return raw.decode(f"{encoding}-sig" if encoding == "utf-8" else encoding, errors="replace")
    said = CHARSET.search(raw[:SNIFFED_BYTES])
    for name in (charset, said[1].decode() if said else None):
        try:
            if name and "\0" not in name:
                encoding = codecs.lookup(name).name
                return raw.decode("cp1252" if encoding in ("iso8859-1", "ascii") else encoding, errors="replace")
        except (LookupError, ValueError):
            continue
    text = raw.decode(errors="replace")
    if text.count(REPLACED) > len(text) / 10:
        raise ConversionError("it is no HTML, or in an encoding that it does not tell")
    return text

"""The process that converts: one file after another, as it is asked on stdin.

A request is a line of JSON (`{"path", "kind", "page"?}`, the last with what a page's server said of it), an answer four
bytes of length, big-endian, and JSON: `{"converted"}` or `{"error"}`. Nothing else is written to what stdout was:
libraries print.
"""

import gzip
import os
import resource
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import import_module
from math import ceil
from pathlib import Path

import orjson

from agents.sources.convert import ConversionError, Converted, pages
from agents.sources.convert.builder import INFLATED_BYTES
from agents.sources.convert.kinds import GZIP, KINDS

LARGEST_TEXT = 12 * 1024**2
"""Bytes of a document's text, at most: a record has to hold it."""
NICENESS = 10
"""Below a worker on the same machine: of a processor that both want it has a tenth. Reads are ranked by it, too."""
SUSPECT_BYTES = 16 * 1024
"""A file of so many bytes has some text; where none is found, it is in pictures, or the file is broken."""


def convert(path: Path, kind: str) -> Converted:
    """Raises ConversionError, or what a library raises."""
    if path.suffix.lower() == GZIP:
        with tempfile.NamedTemporaryFile(suffix=kind) as plain:
            _gunzip(path, Path(plain.name))
            return _checked(Path(plain.name), kind)
    return _checked(path, kind)


def _checked(path: Path, kind: str) -> Converted:
    module, name = KINDS[kind][0].split(":")
    found: Converted = getattr(import_module(f"agents.sources.convert.{module}"), name)(path)
    size = path.stat().st_size
    if not found.text.strip() and size > SUSPECT_BYTES:
        pictures = "pages that are pictures need a text layer (OCR)"
        raise ConversionError(f"no text in {size} bytes: {pictures if kind == '.pdf' else 'is it all pictures?'}")
    return _bounded(found)


def _bounded(found: Converted) -> Converted:
    if len(found.text.encode()) > LARGEST_TEXT:  # which lone surrogates, being no text, fail
        raise ConversionError(f"more than {LARGEST_TEXT} bytes of text: divide it")
    return found


def _gunzip(path: Path, to: Path) -> None:
    left = INFLATED_BYTES
    with gzip.open(path) as packed, to.open("wb") as opened:
        while part := packed.read(1024**2):
            left -= len(part)
            if left < 0:
                raise ConversionError(f"more than {INFLATED_BYTES} bytes when it is unpacked")
            opened.write(part)


def _lower(what: int, limit: int) -> None:
    """The soft limit: the hard one stays, since whoever is not root cannot raise it again."""
    hard = resource.getrlimit(what)[1]
    resource.setrlimit(what, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def main() -> None:
    """Until stdin ends. `argv`: bytes of address space, seconds of CPU for a file: nobody may be left to end us."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.nice(NICENESS)
    limit, seconds = map(int, sys.argv[1:])
    _lower(resource.RLIMIT_AS, limit)
    _lower(resource.RLIMIT_CORE, 0)
    for line in sys.stdin.buffer:
        asked = orjson.loads(line)
        path = Path(os.fsdecode(bytes.fromhex(asked["path"])))  # which may be no UTF-8
        used = ceil(time.process_time()) + seconds
        _lower(resource.RLIMIT_CPU, used)
        try:
            page = asked.get("page")
            found = convert(path, asked["kind"]) if page is None else _bounded(pages.page(path, page["charset"]))
            answer = orjson.dumps({"converted": asdict(found)})
        except MemoryError:
            answer = orjson.dumps({"error": f"it needs more than {limit} bytes of memory"})
        except ConversionError as exc:
            answer = orjson.dumps({"error": str(exc)})
        except Exception as exc:  # noqa: BLE001 - of any library, about a file that is none of its kind
            told = " ".join(str(exc).split())[:300]
            answer = orjson.dumps({"error": f"no valid {asked['kind']}: {type(exc).__name__}: {told}"})
        answers.write(len(answer).to_bytes(4, "big") + answer)
        answers.flush()


if __name__ == "__main__":
    main()

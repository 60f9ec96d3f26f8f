"""Debian's manual pages as documents, and what each is about as a question that it answers: a known item.

The NAME line (`open - open and possibly create a file`) is left out of the text: its second half is the question.
"""

import gzip
import hashlib
import io
import re
import tarfile
import urllib.request
from dataclasses import dataclass

from agents.settings.environment import cache_dir
from tests.kit.shared import alone

POOL = "http://deb.debian.org/debian/pool/main/m/manpages"
PACKAGES = {
    "manpages_6.03-2_all.deb": "efa1ba4cd19ad7baeae959c9209a7eb74be2ebb858bcabb412597bfc9f588c91",
    "manpages-dev_6.03-2_all.deb": "96f55cb5e26231d5567c89b692bced63825a14a2d5bd18fdf16ea2ed44eb9838",
}
LEAST_CHARS = 200
"""Of a text: what is shorter says where to look."""
_ESCAPES = {"-": "-", "e": "\\", "~": " ", " ": " ", "(aq": "'", "(dq": '"', "(em": "—", "(en": "–", "(bu": "•"}
_ESCAPE = re.compile(r"\\(?:f(?:\[[^]]*\]|\(..|.)|s[+-]?\d+|\*?\[[^]]*\]|\*?\(..|.)")
_TEXT = {"B", "I", "BR", "BI", "RB", "RI", "IR", "IB", "SM", "SB", "SH", "SS", "TQ", "UR", "MT"}
_WORD = re.compile(r'"((?:[^"]|"")*)"|(\S+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """`id`: `open(2)`; `about`: what its NAME line says, without the names."""

    id: str
    about: str
    text: str


def pages() -> list[Page]:
    """All of them, by id; those that are only another name of one are left out. Fetched once: 3 MB.

    Raises OSError where Debian's archive cannot be reached.
    """
    found: dict[str, Page] = {}
    for name, sha256 in PACKAGES.items():
        with tarfile.open(fileobj=io.BytesIO(_data(_fetched(name, sha256)))) as archive:
            for member in archive:
                match = re.fullmatch(r"\./usr/share/man/man\d/(.+)\.(\d\w*)\.gz", member.name)
                if match and member.isfile() and (file := archive.extractfile(member)):
                    page = page_of(f"{match[1]}({match[2]})", gzip.decompress(file.read()).decode(errors="replace"))
                    found |= {page.id: page} if page else {}
    return [found[name] for name in sorted(found)]


def page_of(name: str, roff: str) -> Page | None:
    """Its text, without markup; None of a page without a NAME line, or with hardly a text."""
    sections = _sections(roff)
    about = " ".join(" ".join(sections.pop("NAME", [])).split()).partition(" - ")[2]
    text = "\n".join(f"{title}\n{_joined(lines)}\n" for title, lines in sections.items() if title)
    return Page(id=name, about=about, text=text) if about and len(text) >= LEAST_CHARS else None


def _sections(roff: str) -> dict[str, list[str]]:
    """Lines of each section; an empty one ends a paragraph."""
    lines: list[str] = []
    sections, table = {"": lines}, False
    for line in roff.splitlines():
        if not line.startswith((".", "'")):
            lines += [] if table and line.rstrip().endswith((".", ";")) else [_plain(line)]
            table = table and not line.rstrip().endswith(".")
            continue
        macro, _, rest = line[1:].strip().partition(" ")
        words = [quoted or word for quoted, word in _WORD.findall(rest)]
        if macro in ("SH", "Sh"):
            lines = sections.setdefault(_plain(" ".join(words)).upper(), [])
        elif macro in _TEXT:
            lines.append(_plain(("" if len(macro) == 2 and macro[0] in "BIR" else " ").join(words)))
        elif macro == "IP" and words:
            lines += ["", _plain(words[0])]
        elif macro in ("PP", "P", "LP", "TP", "IP", "sp"):
            lines.append("")
        elif macro == "TS":
            table = True
    return sections


def _joined(lines: list[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _plain(line: str) -> str:
    return _ESCAPE.sub(lambda found: _ESCAPES.get(found[0][1:], ""), line).replace("\t", "  ").rstrip()


def _fetched(name: str, sha256: str) -> bytes:
    path = cache_dir() / "manpages" / name
    with alone("manpages"):
        if not path.exists():
            with urllib.request.urlopen(f"{POOL}/{name}", timeout=60) as answer:  # noqa: S310 - Debian's own
                found: bytes = answer.read()
            if hashlib.sha256(found).hexdigest() != sha256:
                raise OSError(f"{POOL}/{name} is not the file that it was")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".part").write_bytes(found)
            path.with_suffix(".part").rename(path)
    return path.read_bytes()


def _data(package: bytes) -> bytes:
    """The archive of files within a package, which is itself one of ar's."""
    place = 8
    while place < len(package):
        name, size = package[place : place + 16].decode().strip(), int(package[place + 48 : place + 58])
        place += 60
        if name.startswith("data.tar"):
            return package[place : place + size]
        place += size + size % 2
    raise OSError("there are no files in it")

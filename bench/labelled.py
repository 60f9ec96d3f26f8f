"""Texts of which is known what is wrong with them, and their languages: real ones of this machine, and what is made of
them. And pairs of documents of which is known how alike they are."""

import base64
import gettext
import gzip
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson

from agents.sources.pydocs import read_modules
from streams.flags import Flag
from streams.likeness import WIDTH

ROOTS = (Path("/usr/share"), Path("/usr/lib/python3"), Path("/etc/ssl"))
SIZE = 3000
"""Characters of a document, about."""
MANY = 150
"""Documents of a kind, at most."""
LEAST_MESSAGE = 40
"""Characters of a translated message that is no mere label."""
CODECS = ("latin-1", "cp1252", "cp1250", "mac_roman")
_MACROS = re.compile(r"^[.'].*$|\\f.|\\[&|^/]|\\-", re.MULTILINE)
_LATIN = ("de", "fr", "es", "pt", "it", "pl", "cs", "sv", "da", "hu", "tr", "ro", "fi", "nl", "ca", "hr", "sk", "sl")
_TABLES = (
    "+--------+--------+\n|  {a:4}  |  {b:4}  |\n+========+========+\n| ...... | ~~~~~~ |\n+--------+--------+\n",
    "┌────────┬────────┐\n│ {a:4}   │ {b:4}   │\n├────────┼────────┤\n│ ▓▓▓▓░░ │ ██▒▒░░ │\n└────────┴────────┘\n",
    "[#########>............] {a}% |=======>       | {b}% -------- >>> <<< ***** $$ !!\n",
)
_DRAWN: frozenset[Flag] = frozenset(["boilerplate", "short"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """`flag`: what it should have; None: nothing. `also`: what it has as well, by the way that it is made. `kind`: of
    which sort it is. `language`: where that is known."""

    text: str
    kind: str
    flag: Flag | None = None
    also: frozenset[Flag] = frozenset()
    language: str | None = None


def mix(roots: Sequence[Path] = ROOTS) -> list[Labelled]:
    """Of each kind up to `MANY`, the same on each call on one machine."""
    chosen = random.Random(18)
    plain = {"documentation": list(_documentation()), "programs": list(_programs(roots))}
    languages = _languages(roots)
    found = [Labelled(text=text, kind=kind) for kind, texts in plain.items() for text in _some(texts, chosen)]
    for language, texts in sorted(languages.items()):
        found += [
            Labelled(text=text, kind="translations", language=language) for text in _some(texts, chosen)[: MANY // 10]
        ]
    latin = [text for language in _LATIN for text in languages.get(language, ())]
    foreign = [text for text in latin if len(text.encode()) > 1.01 * len(text)]
    found += [
        Labelled(text=text, kind="mojibake", flag="mojibake", also=frozenset(["control"]))  # C1, read as Latin-1
        for text in _some([_misread(text, chosen.choice(CODECS)) for text in foreign], chosen)
    ]
    lost = [text.encode("cp1252", "ignore").decode(errors="replace") for text in _some(foreign, chosen)]
    found += [
        Labelled(text=text, kind="bytes that were no UTF-8", flag="replacement")
        for text in lost
        if text.count("\ufffd") > len(text) / 200
    ]
    found += [
        Labelled(text=_colored(text, chosen), kind="terminal logs", flag="control")
        for text in _some(plain["documentation"], chosen)
    ]
    found += [Labelled(text=text, kind="encoded data", flag="base64") for text in _some(list(_encoded(roots)), chosen)]
    found += [
        Labelled(text=text, kind="minified code", flag="minified") for text in _some(list(_minified(roots)), chosen)
    ]
    lines = [line.strip() for text in plain["documentation"] for line in text.split("\n") if 3 < len(line.strip()) < 60]
    found += [
        Labelled(text=_page(text, lines, chosen), kind="pages of menus", flag="boilerplate")
        for text in _some(plain["documentation"], chosen)
    ]
    found += [
        Labelled(text=_drawn(chosen), kind="tables without words", flag="symbols", also=_DRAWN) for _ in range(MANY)
    ]
    found += [
        Labelled(text=text, kind="a word or two", flag="short", also=frozenset(["symbols"]))
        for text in _some([line for line in lines if sum(map(str.isalnum, line)) < 16], chosen)
    ]
    return found


def _some(texts: Sequence[str], chosen: random.Random) -> list[str]:
    return chosen.sample(texts, min(MANY, len(texts)))


def _documentation() -> Iterator[str]:
    for document in read_modules():
        text = orjson.loads(document.value or b"")["text"]
        yield from (text[start : start + SIZE] for start in range(0, min(len(text), 5 * SIZE), SIZE))


def _files(roots: Sequence[Path], *patterns: str) -> Iterator[Path]:
    for root in roots:
        for pattern in patterns:
            yield from sorted(path for path in root.rglob(pattern) if path.is_file())


def _text_of(path: Path) -> str | None:
    raw = path.read_bytes()
    try:
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    except (UnicodeDecodeError, gzip.BadGzipFile):
        return None


def _programs(roots: Sequence[Path]) -> Iterator[str]:
    for path in _files(roots, "*.py", "*.pm", "*.sh", "*.js", "*.css"):
        text = None if ".min." in path.name else _text_of(path)
        if text and len(text) > 500 and max(map(len, text.split("\n"))) < 300:
            yield text[:SIZE]


def _minified(roots: Sequence[Path]) -> Iterator[str]:
    for path in _files(roots, "*.min.js", "*.min.css"):
        text = _text_of(path) or ""
        yield from (text[start : start + SIZE] for start in range(0, min(len(text) - 500, 4 * SIZE), SIZE))


def _encoded(roots: Sequence[Path]) -> Iterator[str]:
    for path in _files(roots, "*.pem", "*.crt"):
        if text := _text_of(path):
            yield text[:SIZE]
    for number, path in enumerate(_files(roots, "*.gz", "*.png")):
        raw = path.read_bytes()[:2000]
        if len(raw) > 500:
            yield (base64.encodebytes if number % 2 else base64.b64encode)(raw).decode()


def _languages(roots: Sequence[Path]) -> dict[str, list[str]]:
    """Translated messages and manuals, by the language of their folder."""
    found: dict[str, list[str]] = defaultdict(list)
    for root in roots:
        for path in sorted(root.glob("locale/*/LC_MESSAGES/*.mo")):
            language, text = re.split("[_@]", path.parts[-3])[0], ""
            if "@" in path.parts[-3]:  # of another script
                continue
            for message in _messages(path):
                text += message + "\n\n"
                if len(text) > SIZE / 2:
                    found[language].append(text)
                    text = ""
        for path in sorted(root.glob("man/*/man*/*.gz")):
            if text := _text_of(path) or "":
                found[re.split("[_.]", path.parts[-3])[0]].append(_MACROS.sub("", text)[:SIZE])
    return {"no" if language == "nb" else language: texts for language, texts in found.items() if len(texts) >= 5}


def _messages(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            catalog = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]  # the whole of it
    except (OSError, LookupError, ValueError):  # some are broken
        return
    for original, message in catalog.items():
        if original and original != message and isinstance(message, str) and len(message) >= LEAST_MESSAGE:
            yield message


def _misread(text: str, codec: str) -> str:
    return text.encode().decode(codec, errors="ignore")


def _colored(text: str, chosen: random.Random) -> str:
    return "".join(f"\x1b[{chosen.randint(30, 37)}m{line}\x1b[0m\n" for line in text.split("\n"))


def _page(text: str, lines: Sequence[str], chosen: random.Random) -> str:
    """A menu before, between and after some real text."""
    menu = "\n".join(chosen.sample(lines, 15)) + "\n"
    parts = [text[at : at + 150] for at in range(0, 900, 150)]
    return menu + menu.join(f"{part}\n" for part in parts) + menu


def _drawn(chosen: random.Random) -> str:
    form = chosen.choice(_TABLES)
    return "".join(form.format(a=chosen.randint(0, 99), b=chosen.randint(0, 99)) for _ in range(chosen.randint(4, 20)))


@cache
def _vocabulary() -> list[str]:
    chosen, letters = random.Random(0), "abcdefghijklmnopqrstuvwxyz"
    return ["".join(chosen.choices(letters, k=3 + number % 7)) for number in range(50_000)]


def words(chosen: random.Random, count: int) -> list[str]:
    """Of three to nine letters."""
    return chosen.choices(_vocabulary(), k=count)


def pair(chosen: random.Random, aim: float) -> tuple[str, str]:
    """Two documents of 100 words that have about so much in common: some words of the one are others in the other."""
    first = words(chosen, 100)
    second = list(first)
    lost = (1 - aim) / (1 + aim)  # share of the runs of either that the other has not
    changed = round(100 * lost * 6 / (5 + WIDTH))  # a word of 6 letters is in 13 runs, of which 600 are there
    for at in chosen.sample(range(100), changed):
        second[at] = words(chosen, 1)[0]
    return " ".join(first), " ".join(second)


def jaccard(first: str, second: str) -> float:
    """Of the runs of bytes of two documents, exactly."""
    one, other = (
        {data[at : at + WIDTH] for at in range(len(data) - WIDTH + 1)}
        for data in ("".join(text.lower().split()).encode() for text in (first, second))
    )
    return len(one & other) / len(one | other)

"""What the installed libraries make of fixed texts: part of the index contract. Pure.

Another version of one of them may cut or count otherwise, and a version that does not may go on: so what they make
is compared, and not their versions.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import orjson

from streams.quality import all_judged
from streams.record import Document, Record
from streams.split import Chunk, Encode, SplitRules, split_text

LONGEST = 20_000
"""Characters of a probe text: longer chunks than a third of it are not probed."""
PIECES = (
    "A record's offset is its place in the partition. Offsets grow, and two of them compare within one partition only! "
    'Do they compare between partitions? "No", says the manual; see §4.2 (p. 17), or e.g. https://example.org/a?b=c#d.',
    "# Heading\n\n* one\n* two,\n  continued\n\n```python\ndef f(x: int) -> int:\n\treturn x ** 2  # squared\n```\n",
    "Ein Wehr staut das Wasser; die Druckrohrleitung führt es zur Turbine. L'eau, elle, s'écoule… ¿Verdad? Да.",
    "日本語の文章も、切り捨てずに扱われます。句点で区切られます。中文也一样，没有空格。"
    "한국어 문장입니다. ภาษาไทยไม่มีช่องว่าง",
    "🙂🚀👩‍👩‍👧‍👦 🇨🇭 e\u0301 ﬁ ½ ∑ \u200b\u00a0\u2028 ACCENTS ÀÉÎ ß İ",
    "1234567890 3.14159 0xDEADBEEF 2026-11-21T12:00:00Z 1,000,000.00 a_b-c/d\\e @user #tag $9.99 50%",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" + "x" * 120,
    "line\r\nbreaks\rof\nevery\n\n\nkind \t and   spaces\f\v",
)


def probe(rules: SplitRules, encode: Encode) -> dict[str, str]:
    """`chunks`: of where texts are cut; `tokens`: of the ids that they become. Milliseconds."""
    texts = _texts(min(LONGEST, 3 * rules.max_chars))
    places = [[(chunk.start, chunk.end) for chunk in split_text(text, rules, encode)] for text in texts]
    tokens = [np.asarray(ids).tolist() for ids in encode(PIECES)]
    return {"chunks": _digest(places), "tokens": _digest(tokens)}


def probe_quality() -> dict[str, str]:
    """`flags`, `languages`, `signatures`: of what is told of texts and stored with them. Milliseconds."""
    texts = [*PIECES, *(piece.encode().decode("latin-1") for piece in PIECES), "".join(PIECES)]
    verdicts = all_judged([_document(text) for text in texts])
    return {
        "flags": _digest([verdict.flags for verdict in verdicts]),
        "languages": _digest([verdict.language for verdict in verdicts]),
        "signatures": _digest([verdict.signature for verdict in verdicts]),
    }


def _document(text: str) -> tuple[Document, list[Chunk]]:
    record = Record(topic="", partition=0, offset=0, timestamp_ms=0, key=None, value=None)
    chunk = Chunk(text=text, ids=(), start=0, end=len(text), metadata={})
    return Document(record=record, id="", content_hash="", text=text), [chunk]


def _texts(length: int) -> list[str]:
    """One text of all pieces with paragraphs between them, and each piece again and again without any."""
    mixed, number = "", 0
    while len(mixed) < length:
        mixed += PIECES[number % len(PIECES)] + ("\n\n" if number % 3 else " ")
        number += 1
    return [mixed, *(piece * max(1, min(length, 2000) // len(piece)) for piece in PIECES)]


def _digest(found: Sequence[object]) -> str:
    return hashlib.sha256(orjson.dumps(found)).hexdigest()[:16]

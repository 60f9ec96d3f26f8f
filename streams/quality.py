"""What is wrong with a text, as far as the text alone tells. Pure, and the same every time: it is stored with a chunk.

    flags      of each chunk, by its own text; two of them by the document's: too short, and lines that it repeats
    language   of the document, of a sample
    signature  of the document, by which others that are nearly the same are found (`streams.likeness`)

It annotates. Only what `quality.reject` lists keeps a document out, where more than half of its text has such a flag.
White space counts for nothing but the ends of lines: a text that is made again from its chunks has the same flags.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from unicodedata import category

from ftfy import fix_encoding_and_explain
from ftfy.badness import is_bad

from streams.flags import FLAGS, Flag, Verdict
from streams.language import recognised
from streams.likeness import signatures_of
from streams.record import Document, Rejected
from streams.split import Chunk

REJECTED_ABOVE = 1 / 2
"""Share of a document's characters that are in chunks with the flag."""
RARE = 1 / 500
"""Share of replacement or control characters up to which they are nothing: a page about them has one or two."""
MAX_SYMBOLS = 1 / 2
"""Share of punctuation and symbols; tables, formulas and programs have up to two fifths."""
MIN_LETTERS = 20
"""Letters and digits of a document, below which a model has little to go by."""
REPEATED = 3
"""So often a line is there that is boilerplate."""
MAX_REPEATED = 1 / 2
"""Share of such lines in a chunk."""
LINES_WITHIN = 250_000
"""Characters at the beginning of a document within which repeated lines are looked for: it bounds the memory."""
LONG_WORD = 40
"""Characters without white space that prose does not have, and base64 and minified code do."""
MAX_BASE64 = 1 / 2
"""Share of runs that look like base64."""
MAX_BLANK, MIN_CODE, MIN_ASCII = 1 / 12, 1 / 30, 4 / 5
"""Of minified code: white space at most, brackets and operators at least, and ASCII, since some scripts have no spaces.
Code for people has a fifth of white space."""

_BLANK = b" \t\n\v\f\r"
_ALPHANUMERIC = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CONTROL = bytes({*range(0x20), 0x7F} - set(b"\t\n\v\f\r\x1c\x1d\x1e\x1f"))
_CODE = b"(){}[];=<>|&!"
_SHAPE = bytes(0x20 if chr(code).isspace() else 0x78 for code in range(0x80)) + bytes(0x80)
_LONG = b"x" * LONG_WORD
"""In a text's shape, where it has a long word; other white space than ASCII's counts as a letter there."""
_C1 = re.compile("[\x80-\x84\x86-\x9f]")
_RUN = re.compile(rf"[A-Za-z0-9+/_-]{{{LONG_WORD},}}")


def judged(document: Document, chunks: Sequence[Chunk]) -> Verdict:
    """Of a document with its text, and its chunks. Takes some 50 µs a KB; linear in the text."""
    return all_judged([(document, chunks)])[0]


def all_judged(documents: Sequence[tuple[Document, Sequence[Chunk]]]) -> list[Verdict]:
    """Of several, each as `judged`. One question after the other: what it takes is loaded once for all of them."""
    texts = [_texts(document, chunks) for document, chunks in documents]
    flags = [_all_flags(parts, chunks) for parts, (_, chunks) in zip(texts, documents, strict=True)]
    languages = [recognised(parts) if parts else None for parts in texts]
    rows = zip(flags, languages, signatures_of(texts), strict=True)
    return [Verdict(flags=told, language=language, signature=signature) for told, language, signature in rows]


def _texts(document: Document, chunks: Sequence[Chunk]) -> Sequence[str]:
    return [document.text] if chunks and document.text else [chunk.text for chunk in chunks]


def _all_flags(texts: Sequence[str], chunks: Sequence[Chunk]) -> tuple[tuple[Flag, ...], ...]:
    repeated, short = _repeated(texts), _is_short(texts)
    return tuple(tuple(_flags(chunk.text, repeated, short=short)) for chunk in chunks)


def refusal(document: Document, chunks: Sequence[Chunk], verdict: Verdict, reject: Collection[Flag]) -> Rejected | None:
    """Why a document is not to be indexed, or None. `reject`: as the index contract has it."""
    total = sum(len(chunk.text) for chunk in chunks)
    for flag in FLAGS:
        if flag not in reject:
            continue
        flagged = [chunk.text for number, chunk in enumerate(chunks) if flag in verdict.of(number)]
        if sum(map(len, flagged)) <= REJECTED_ABOVE * total:
            continue
        error, told = _TOLD[flag]
        why = _cause(flagged[0]) if flag == "mojibake" else told
        message = (
            f"{why}, in {len(flagged)} of {len(chunks)} chunks, and quality.reject of the index has {flag}: publish it "
            "again when it is mended, or fill an index that takes it (`penstock index rebuild`, without that)"
        )
        return Rejected(record=document.record, stage="quality", error=error, message=message)
    return None


def _as_read(first: int, end: int) -> str:
    """All that these bytes may have become, by the encodings that ftfy knows."""
    found = {character for codec in _CODECS for character in bytes(range(first, end)).decode(codec, "ignore")}
    return re.escape("".join(sorted(found)))


_CODECS = ("latin-1", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1257", "iso-8859-2", "mac_roman", "cp437")
_MISREAD = re.compile(f"[{_as_read(0xC2, 0xF5)}][{_as_read(0x80, 0xC0)}]")
"""A character of several bytes: nothing is mojibake without one, and ftfy's own rules take twenty times as long."""


def repaired(text: str) -> str | None:
    """What a text may have been before it was decoded wrongly; None where it is no mojibake.

    A suggestion, for people: what is stored is the text as it came.
    """
    if text.isascii() or not _MISREAD.search(text) or not is_bad(text):
        return None
    fixed = fix_encoding_and_explain(text).text
    return None if fixed == text else fixed


def _cause(text: str) -> str:
    """Which wrong decoding made mojibake of a text: where its producer has to look."""
    steps = fix_encoding_and_explain(text).explanation or []
    wrong = [step.parameter.removeprefix("sloppy-") for step in steps if step.action == "encode"]
    return f"it looks like UTF-8 that was read as {wrong[0]}" if wrong else "it was decoded wrongly"


def _flags(text: str, repeated: Collection[str], *, short: bool) -> Iterator[Flag]:
    """Of one chunk. In the order of `FLAGS`."""
    size, plain = len(text), text.encode("ascii", "ignore")
    if repaired(text) is not None:
        yield "mojibake"
    if text.count("\ufffd") > RARE * size:
        yield "replacement"
    controls = len(plain) - len(plain.translate(None, _CONTROL))
    if controls + (0 if text.isascii() else len(_C1.findall(text))) > RARE * size:
        yield "control"
    if repeated and _share_of_lines(text, repeated) > MAX_REPEATED:
        yield "boilerplate"
    if short:
        yield "short"
    plain = plain.translate(None, _BLANK)
    if _share_of_symbols(text, plain) > MAX_SYMBOLS:
        yield "symbols"
    words = text.split() if _LONG in text.encode("ascii", "replace").translate(_SHAPE) else []
    if max(map(len, words), default=0) >= LONG_WORD:
        if sum(len(run) for run in _RUN.findall(text) if _is_random(run)) > MAX_BASE64 * size:
            yield "base64"
        blank = size - sum(map(len, words))
        code = len(plain) - len(plain.translate(None, _CODE))
        if blank < MAX_BLANK * size and code > MIN_CODE * size and len(plain) > MIN_ASCII * size:
            yield "minified"


def _share_of_symbols(text: str, plain: bytes) -> float:
    """Punctuation and symbols among all that is no white space. `plain`: what of that is ASCII."""
    solid, symbols = len(plain), len(plain.translate(None, _ALPHANUMERIC + _CONTROL))
    if not text.isascii():
        for character, times in Counter(text).items():
            if character > "\x7f" and not character.isspace():
                solid += times
                symbols += times * (category(character)[0] in "PS")
    return symbols / solid if solid else 0.0


def _is_random(run: str) -> bool:
    """Whether capitals, small letters and digits are as mixed as in base64: 41, 41 and 16 %. No path or name is."""
    letters = [character for character in run if character.isalpha()]
    capitals, digits = sum(map(str.isupper, letters)), sum(map(str.isdigit, run))
    return min(capitals, len(letters) - capitals) > len(run) / 5 and digits > len(run) / 25


def _repeated(texts: Sequence[str]) -> frozenset[str]:
    """Lines that are there again and again, without the white space around them."""
    found, left = Counter[str](), LINES_WITHIN
    for text in texts:
        if left <= 0:
            break
        found.update(line.strip() for line in text[:left].split("\n"))
        left -= len(text)
    return frozenset(line for line, times in found.items() if times >= REPEATED and line)


def _share_of_lines(text: str, lines: Collection[str]) -> float:
    """How much of a text is made of these."""
    found = [line.strip() for line in text.split("\n")]
    total = sum(map(len, found))
    return sum(len(line) for line in found if line in lines) / total if total else 0.0


def _is_short(texts: Sequence[str]) -> bool:
    """Whether there are few letters and digits in all of a document."""
    left = MIN_LETTERS
    for text in texts:
        for at in range(0, len(text), 2 * MIN_LETTERS):
            left -= sum(map(str.isalnum, text[at : at + 2 * MIN_LETTERS]))
            if left <= 0:
                return False
    return True


_TOLD: dict[Flag, tuple[str, str]] = {
    "mojibake": ("Mojibake", "it was decoded wrongly"),
    "replacement": ("ReplacementCharacters", "characters were lost when it was decoded (U+FFFD)"),
    "control": ("ControlCharacters", "it has control characters"),
    "boilerplate": ("Boilerplate", "it repeats its own lines"),
    "short": ("TooShort", f"it has less than {MIN_LETTERS} letters and digits"),
    "symbols": ("Symbols", "it is more symbols than letters"),
    "base64": ("Base64", "it is encoded data"),
    "minified": ("MinifiedCode", "it is minified code or data"),
}
"""Of a dead letter: its error, and what it says."""

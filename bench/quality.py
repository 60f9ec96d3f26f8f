"""How well texts are judged, and what that costs: `python -m bench.quality [FOLDER…]` writes tables of docs/quality.md.

FOLDER: where more files are than this machine has, minified ones say (`*.min.js`).
"""

import random
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from bench.corpus import mixed_texts
from bench.labelled import ROOTS, Labelled, jaccard, mix, pair
from streams.flags import FLAGS, Flag, Verdict
from streams.language import recognised
from streams.likeness import clusters, read, signature_of
from streams.quality import judged, refusal
from streams.record import Document, Record
from streams.split import Chunk, SplitRules, split_text

DOC = Path(__file__).parents[1] / "docs" / "quality.md"
MARKS = re.compile(r"(<!-- made by `python -m bench.quality`, do not edit -->\n).*?(<!-- end -->)", re.DOTALL)
RULES = SplitRules(max_chars=1000, overlap_chars=100, max_tokens=10**6)
PAIRS = 10_000
WIDELY = frozenset(
    (
        *(
            "ar",
            "bg",
            "bn",
            "ca",
            "cs",
            "da",
            "de",
            "el",
            "en",
            "es",
            "et",
            "fa",
            "fi",
            "fr",
            "he",
            "hi",
            "hr",
            "hu",
            "id",
            "it",
            "ja",
        ),
        *(
            "ko",
            "lt",
            "lv",
            "ms",
            "nl",
            "no",
            "pl",
            "pt",
            "ro",
            "ru",
            "sk",
            "sl",
            "sr",
            "sv",
            "ta",
            "te",
            "th",
            "tr",
            "uk",
            "ur",
            "vi",
            "zh",
        ),
    )
)
BOUNDS = (0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 1.01)
"""Of similarity, between which pairs are counted together."""
SHORT = 100
"""Characters of the shorter texts whose language is looked for."""


def main() -> None:
    """Write the tables."""
    found = mix((*ROOTS, *map(Path, sys.argv[1:])))
    table = "\n\n".join((_of_flags(found), _of_languages(found), _of_pairs(), _of_cost())) + "\n"
    print(table)
    DOC.write_text(MARKS.sub(lambda marks: marks[1] + table + marks[2], DOC.read_text()))


def judge(text: str) -> tuple[Document, list[Chunk], Verdict]:
    """A document of this text, split and judged."""
    record = Record(topic="", partition=0, offset=0, timestamp_ms=0, key=None, value=None)
    document = Document(record=record, id="", content_hash="", text=text)
    chunks = split_text(text, RULES, lambda texts: [[1]] * len(texts))
    return document, chunks, judged(document, chunks)


def flags_of(text: str) -> set[Flag]:
    """Of the document: those that would reject it."""
    document, chunks, verdict = judge(text)
    return {flag for flag in FLAGS if refusal(document, chunks, verdict, [flag])}


def _of_flags(found: Sequence[Labelled]) -> str:
    right, told, labelled, wrong = (
        Counter[Flag](),
        Counter[Flag](),
        Counter[Flag](),
        defaultdict[Flag, Counter[str]](Counter),
    )
    for one in found:
        flags = flags_of(one.text)
        told.update(flags - one.also)
        if one.flag:
            labelled[one.flag] += 1
            right[one.flag] += one.flag in flags
        for flag in flags - one.also - {one.flag}:
            wrong[flag][one.kind] += 1
    kinds = Counter(one.kind for one in found)
    lines = [
        f"Flags, of {len(found):,} documents: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()) + ".",
        "",
        "| flag | documents that have it | precision | recall | others that were taken for it |",
        "|---|---|---|---|---|",
    ]
    for flag in FLAGS:
        others = ", ".join(f"{count} {kind}" for kind, count in wrong[flag].most_common()) or "none"
        precision, recall = right[flag] / max(1, told[flag]), right[flag] / max(1, labelled[flag])
        lines.append(f"| `{flag}` | {labelled[flag]} | {precision:.3f} | {recall:.3f} | {others} |")
    return "\n".join(lines)


def _of_languages(found: Sequence[Labelled]) -> str:
    texts = [(one.text, one.language) for one in found if one.language]
    widely = [(text, language) for text, language in texts if language in WIDELY]
    missed = Counter(
        f"{language} as {told}" for text, language in widely if (told := recognised([text])) not in (language, None)
    )
    rows = [
        _row(f"of {len({language for _, language in widely})} languages that are widely written", widely),
        _row(f"{SHORT} characters of these", [(_middle(text), language) for text, language in widely]),
        _row(f"of all {len({language for _, language in texts})}", texts),
    ]
    often = ", ".join(f"{what} ({count})" for what, count in missed.most_common(6)) or "none"
    return "\n".join(
        [
            f"Languages, of {len(texts):,} translated texts of some KB:",
            "",
            "| | texts | right | not told | wrong |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"Widely written ones that were mistaken: {often}.",
        ]
    )


def _row(name: str, texts: Sequence[tuple[str, str]]) -> str:
    outcomes = Counter[str]()
    for text, language in texts:
        told = recognised([text])
        outcomes["not told" if told is None else "right" if told == language else "wrong"] += 1
    shares = " | ".join(f"{outcomes[what] / len(texts):.3f}" for what in ("right", "not told", "wrong"))
    return f"| {name} | {len(texts):,} | {shares} |"


def _middle(text: str) -> str:
    return text[len(text) // 2 : len(text) // 2 + SHORT]


def _of_pairs() -> str:
    chosen = random.Random(20)
    texts, exact = list[str](), list[float]()
    for _ in range(PAIRS):
        pair_ = pair(chosen, chosen.uniform(0.3, 1))
        texts += pair_
        exact.append(jaccard(*pair_))
    rows = np.stack([read(signature_of([text]) or "") for text in texts])
    began = time.process_time()
    joined = {one.members[0] // 2 for one in clusters(rows, 0.8)}
    seconds = time.process_time() - began
    lines = [
        f"Near duplicates, `--similarity 0.8`, of {PAIRS:,} generated pairs among {2 * PAIRS:,} documents (clustered "
        f"in {seconds:.1f} s):",
        "",
        "| similarity of the pair | pairs | found |",
        "|---|---|---|",
    ]
    for low, high in pairwise(BOUNDS):
        inside = [number for number, value in enumerate(exact) if low <= value < high]
        found = sum(number in joined for number in inside)
        lines.append(f"| {low:.2f}–{min(high, 1):.2f} | {len(inside):,} | {found / max(1, len(inside)):.3f} |")
    return "\n".join(lines)


def _of_cost() -> str:
    from agents.sources.pydocs import real_texts

    documents = [judge_parts(text) for text in mixed_texts(real_texts(), 2_000_000)]
    chunks = sum(len(parts) for _, parts in documents)
    for document, parts in documents[:50]:
        judged(document, parts)
    began = time.thread_time()
    for document, parts in documents:
        judged(document, parts)
    spent = time.thread_time() - began
    characters = sum(len(document.text or "") for document, _ in documents)
    count = len(documents)
    return (
        f"Cost: {spent / chunks * 1e6:.0f} µs of a core a chunk, {spent / count * 1e6:.0f} µs a document, of "
        f"{count:,} documents of {characters / count:.0f} characters and {chunks / count:.1f} chunks."
    )


def judge_parts(text: str) -> tuple[Document, list[Chunk]]:
    """A document, split."""
    document, chunks, _ = judge(text)
    return document, chunks


if __name__ == "__main__":
    main()

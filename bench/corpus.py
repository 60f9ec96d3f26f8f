"""What every row reads: half of it the demo's documents, half generated texts of mixed lengths.

The documents come split already (`chunks`), so that every row embeds the very same texts, and none over the model's
limit: the others would cut those off without a word.
"""

import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from agents.sources import Outgoing
from agents.sources.pydocs import read_modules
from models.onnx.embedder import OnnxEmbedder
from streams.split import SplitRules, split_text

DOCUMENT_CHUNKS = 20
"""Chunks a document at most: long modules are several documents."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Records to publish, and the text of every chunk by its id."""

    documents: list[Outgoing]
    texts: dict[str, str]


def make_corpus(embedder: OnnxEmbedder, chunks: int) -> Corpus:
    """So many chunks: documentation first, then a mix."""
    rules = SplitRules(max_chars=1000, overlap_chars=100, max_tokens=embedder.manifest.max_tokens)
    sources = [orjson.loads(document.value or b"")["text"] for document in read_modules()]
    random.Random(5).shuffle(sources)
    rows: list[list[str]] = []
    for source in (*_until(sources, chunks * 450), *mixed_texts(sources, chunks * 450)):
        made = [chunk.text for chunk in split_text(source, rules, embedder.tokens.encode)]
        rows += [made[start : start + DOCUMENT_CHUNKS] for start in range(0, len(made), DOCUMENT_CHUNKS)]
    random.Random(7).shuffle(rows)
    return corpus_of(rows)


def corpus_of(rows: list[list[str]]) -> Corpus:
    """A document a row."""
    documents: list[Outgoing] = []
    texts: dict[str, str] = {}
    for number, row in enumerate(rows):
        doc_id = f"doc-{number}"
        value = {"chunks": [{"text": text} for text in row], "metadata": {"doc_id": doc_id}}
        documents.append(Outgoing(key=doc_id.encode(), value=orjson.dumps(value), origin=doc_id))
        texts |= {f"{doc_id}#{place}": text for place, text in enumerate(row)}
    return Corpus(documents, texts)


def mixed_texts(sources: list[str], characters: int) -> Iterator[str]:
    """Texts of whole sentences, their lengths log-normal: many of a line or two, some of pages."""
    chosen = random.Random(11)
    sentences = [s for text in sources for s in re.split(r"(?<=[.!?])\s+|\n\n+", text) if 20 < len(s) < 600]
    left = characters
    while left > 0:
        wanted = min(left, 6000.0, math.exp(chosen.gauss(5.5, 1.0)))
        text = ""
        while len(text) < wanted:
            text += chosen.choice(sentences) + " "
        left -= len(text)
        yield text


def _until(sources: list[str], characters: int) -> Iterator[str]:
    for source in sources:
        yield source[: min(characters, 30_000)]
        characters -= 30_000
        if characters <= 0:
            return

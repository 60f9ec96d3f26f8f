"""Texts of every class of widths with their fp32 vectors: what the runs of a setup are held against.

An fp32 file's are computed on the spot, one text a run, by ONNX Runtime's own CPU provider, of the golden texts.
A file of another precision has no fp32 graph beside it: its are made at export, of real texts, and stored.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.golden import GOLDEN_TEXTS
from models.manifest import REFERENCE, TOKENIZER, Manifest
from models.onnx.runtime import Setup
from models.onnx.session import Session
from models.onnx.widths import bounds_up_to, classes
from models.tokens import Tokens
from streams.errors import RefusedError
from streams.plan import Vectors
from streams.split import TokenIds


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """`texts`: ids by ascending length; `vectors`: float32 (texts, dims)."""

    texts: list[NDArray[np.int32]]
    vectors: Vectors


def reference_of(folder: Path, manifest: Manifest, threads: int) -> Reference:
    """A model's reference: stored, or computed in a second or two on so many threads."""
    if manifest.precision != "fp32":
        return read_reference(folder / REFERENCE)
    setup = Setup(provider="cpu", precision="fp32", lanes=threads, threads=1)
    session = Session(folder, manifest, setup)
    texts = texts_of_all_widths(Tokens(folder / TOKENIZER, prefix=manifest.document_prefix), manifest, GOLDEN_TEXTS)
    return Reference(texts=texts, vectors=singly(session, texts))


def texts_of_all_widths(tokens: Tokens, manifest: Manifest, pieces: Sequence[str]) -> list[NDArray[np.int32]]:
    """Two texts a class: one of its greatest width, one within it. Made of these pieces, each begun at another one."""
    wanted = []
    for number, (least, greatest) in enumerate(classes(bounds_up_to(manifest.max_tokens))):
        wanted += [max(least, greatest - 1 - number % 7), greatest]
    return [_text(tokens, pieces, number, width) for number, width in enumerate(wanted)]


def _text(tokens: Tokens, pieces: Sequence[str], number: int, width: int) -> NDArray[np.int32]:
    """Of so many tokens, those that the tokenizer puts at a text's end included."""
    text, place = "", number
    while True:
        text += pieces[place % len(pieces)] + " "
        place += 1
        if len(text) >= 2 * width and len(ids := tokens.encode([text])[0]) >= width:
            return np.concatenate([ids[: width - 1], ids[-1:]])


def singly(session: Session, texts: Sequence[TokenIds]) -> Vectors:
    """Vectors of texts that run alone, on all lanes."""
    with ThreadPoolExecutor(session.setup.lanes) as lanes:
        return np.vstack(list(lanes.map(lambda ids: session.run([ids]), texts)))


def write_reference(path: Path, reference: Reference) -> None:
    """Beside the model, at its export."""
    lengths = np.asarray([len(ids) for ids in reference.texts], dtype=np.int32)
    with path.open("wb") as file:
        np.savez(file, lengths=lengths, ids=np.concatenate(reference.texts), vectors=reference.vectors)


def read_reference(path: Path) -> Reference:
    """Raises RefusedError when it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            ends = np.cumsum(stored["lengths"])[:-1]
            return Reference(texts=np.split(stored["ids"], ends), vectors=stored["vectors"])
    except (OSError, ValueError, KeyError) as exc:
        raise RefusedError(f"{path} cannot be read ({exc}): export the model again") from exc

"""How many tokens a text has: by the model's tokenizer, or at most, where that is not at hand. Nothing is cut off."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.manifest import TOKENIZER, Manifest, ServiceManifest
from streams.errors import RefusedError
from streams.split import EncodeError

SPECIAL_TOKENS = 8
"""That a model may put before and behind a text; most have two."""


class Tokens:
    """Texts to token ids, special tokens and prefix included. Releases the GIL; call it from an owned thread."""

    def __init__(self, path: Path, *, prefix: str = "") -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as exc:
            raise RefusedError(f"{path} is not a tokenizer ({exc}): export the model again") from exc
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._prefix = prefix

    def encode(self, texts: Sequence[str], *, prefix: str | None = None) -> list[NDArray[np.int32]]:
        """Token ids of each text. `prefix` replaces the document prefix (a query's, say).

        Raises EncodeError for texts that the model's vocabulary has no tokens for.
        """
        before = self._prefix if prefix is None else prefix
        inputs = [before + text for text in texts] if before else list(texts)
        try:
            encodings = self._tokenizer.encode_batch_fast(inputs)
        except Exception as exc:
            if type(exc) is not Exception:  # the tokenizers raise the base class itself, nothing else is about a text
                raise
            raise EncodeError(str(exc)) from exc
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]


class ByteBound:
    """Stands for a tokenizer that is not at hand: places in a sequence that is at least as long as the tokens.

    A token stands for a byte at least, in every kind of tokenizer that models have: byte pairs over bytes; pieces over
    characters, with bytes for what they do not know; word pieces. Some of these look at a normalised text, which may be
    longer than what it was made of, so the longest of the usual forms counts.
    """

    def __init__(self, *, prefix: str = "") -> None:
        self._prefix = prefix

    def encode(self, texts: Sequence[str], *, prefix: str | None = None) -> list[range]:
        """As `Tokens.encode`, with as many numbers as there may be tokens."""
        before = self._prefix if prefix is None else prefix
        return [range(SPECIAL_TOKENS + _most_bytes(before + text)) for text in texts]


def _most_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    compatible = unicodedata.normalize("NFKC", text)
    forms = (text, compatible, compatible.casefold(), unicodedata.normalize("NFKD", text))
    return max(len(form.encode(errors="surrogatepass")) for form in forms)


def tokens_of(folder: Path, manifest: Manifest | ServiceManifest) -> Tokens | ByteBound:
    """What counts a model's documents, their prefix included. Raises RefusedError for a file that is no tokenizer."""
    if TOKENIZER in manifest.files:
        return Tokens(folder / TOKENIZER, prefix=manifest.document_prefix)
    return ByteBound(prefix=manifest.document_prefix)

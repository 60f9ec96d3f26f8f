"""The model's own tokenizer, with nothing truncated and nothing padded."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from streams.errors import RefusedError
from streams.split import EncodeError


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

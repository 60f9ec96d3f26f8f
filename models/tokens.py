"""The model's own tokenizer, with nothing truncated and nothing padded."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from streams.errors import RefusedError

TokenIds = list[int]


class Tokens:
    """Texts to token ids, special tokens and prefix included. Releases the GIL; call it from an owned thread."""

    def __init__(self, path: Path, *, prefix: str = "") -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as exc:
            raise RefusedError(f"{path} is not a tokenizer: {exc}") from exc
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._prefix = prefix

    def encode(self, texts: Sequence[str], *, prefix: str | None = None) -> list[TokenIds]:
        """Token ids of each text. `prefix` replaces the document prefix (a query's, say)."""
        before = self._prefix if prefix is None else prefix
        inputs = [before + text for text in texts] if before else list(texts)
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(inputs)]

    def count(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text."""
        return [len(ids) for ids in self.encode(texts)]

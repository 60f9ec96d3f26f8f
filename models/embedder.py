"""A loaded, proved and warm model behind two owned threads: one tokenises, one infers."""

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from models.manifest import GOLDEN, TOKENIZER, Manifest, read_manifest, verify_files
from models.runtime import ProviderName
from models.session import Session
from models.tokens import TokenIds, Tokens
from streams.errors import RefusedError
from streams.plan import Vectors

GOLDEN_COSINE = 0.9999
"""Least cosine of this session's vectors to the stored ones. fp32 on other hardware differs by about 1e-6."""

T = TypeVar("T")


class Embedder:
    """Texts to vectors without blocking the event loop. Made by `load_embedder`."""

    def __init__(self, manifest: Manifest, tokens: Tokens, session: Session, *, max_tokens: int) -> None:
        """`max_tokens`: token budget of one run of the session, padding included."""
        self.manifest = manifest
        self.tokens = tokens
        self.session = session
        self._max_tokens = max_tokens
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="penstock-tokenize")
        self._inferring = ThreadPoolExecutor(1, thread_name_prefix="penstock-infer")

    async def on_tokenizer_thread(self, work: Callable[[], T]) -> T:
        """Run splitting and counting, which call `tokens`, on the tokenizer's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._tokenizing, work)

    async def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of document texts."""
        return await self.on_tokenizer_thread(lambda: self.tokens.encode(texts))

    async def embed(self, tokens: Sequence[TokenIds]) -> Vectors:
        """Vectors in the order given: float32 (len(tokens), dims)."""
        return await asyncio.get_running_loop().run_in_executor(
            self._inferring, lambda: self.session.embed(tokens, self._max_tokens)
        )

    def embed_query(self, text: str) -> list[float]:
        """Vector of one search text, with the query prefix. Blocks."""
        ids = self.tokens.encode([text], prefix=self.manifest.query_prefix)
        if len(ids[0]) > self.manifest.max_tokens:
            raise ValueError(f"the text has {len(ids[0])} tokens, the model takes {self.manifest.max_tokens}")
        return [float(x) for x in self.session.embed(ids, self._max_tokens)[0]]

    def close(self) -> None:
        """Let the threads go; a run in progress finishes by itself."""
        self._tokenizing.shutdown(wait=False, cancel_futures=True)
        self._inferring.shutdown(wait=False, cancel_futures=True)


def load_embedder(
    folder: Path, *, provider: ProviderName = "auto", threads: int | None = None, max_tokens: int = 1024
) -> Embedder:
    """Read the manifest, verify every file, prove the provider, warm up, compare the golden texts.

    Blocks for about a second. Raises PenstockError (no model, no provider) or RefusedError (changed files,
    vectors that are not the exported model's).
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    tokens = Tokens(folder / TOKENIZER, prefix=manifest.document_prefix)
    session = Session(folder, manifest, provider=provider, threads=threads)
    embedder = Embedder(manifest, tokens, session, max_tokens=max_tokens)
    least = golden_cosine(embedder, folder / GOLDEN)
    if least < GOLDEN_COSINE:
        raise RefusedError(
            f"model {manifest.name} on {session.provider} gives other vectors than at its export "
            f"(least cosine {least:.5f}, needed {GOLDEN_COSINE}): export it again, or choose another model.provider"
        )
    return embedder


def golden_cosine(embedder: Embedder, golden: Path) -> float:
    """Least cosine between the golden texts' vectors now and as stored. Also warms the session up."""
    stored = json.loads(golden.read_text())
    expected = np.asarray(stored["vectors"], dtype=np.float32)
    found = embedder.session.embed(embedder.tokens.encode(stored["texts"]), max_tokens=1024)
    if found.shape != expected.shape:
        return -1.0
    products = (found * expected).sum(axis=1)
    return float((products / (np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1))).min())

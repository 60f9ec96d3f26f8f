"""A service's model as the stages have it: counted on own threads, asked on a thread with an event loop of its own.

    encode ─► tokenizer's thread        embed ─► `Asking`, on the service's thread ─► vectors

A worker has two event loops in its life, one before Faust's and Faust's own, and commands have others. Connections and
whoever waits for a turn stay on this one; JSON and base64 are read on it, too, and not where records move.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from yarl import URL

from models.api.asking import FURTHER_INDEX, Asking, Control, Terms, Text, Watch
from models.api.pace import Limits, Pace
from models.api.transport import HttpTransport
from models.cosines import GOLDEN as GOLDEN_COSINE
from models.cosines import cosines
from models.embedder import Embedding, Told
from models.manifest import GOLDEN, SERVICE, ServiceManifest, manifest_of, verify_files
from models.tokens import ByteBound, Tokens, tokens_of
from streams.errors import ModelChangedError
from streams.plan import Vectors
from streams.split import Input

S = TypeVar("S")
T = TypeVar("T")
PATIENCE_S = 5.0
"""Of whoever waits for an answer: so long a service is asked again that fails at once."""
LEAST_SHARE = 1 / 1000
"""Of who has no partitions, and nothing to embed but what was under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """How a service is reached and asked: the settings' section `service`."""

    key_file: Path | None = None
    ca_certs: Path | None = None
    timeout_s: float = 60.0
    limits: Limits = field(default_factory=Limits)
    terms: Terms = field(default_factory=Terms)


class ServiceThread:
    """An event loop on a thread of its own. `name`: of the thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()
        self._open = True

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What it returns or raises, awaited on whatever loop. Cancelled, it is cancelled there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Give up what is under way, run this, and end. Blocks for a moment; a second time does nothing."""
        if not self._open:
            return
        self._open = False

        async def end() -> None:
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await last()
            self._loop.stop()

        asyncio.run_coroutine_threadsafe(end(), self._loop)
        self._thread.join()
        self._loop.close()


class ServiceEmbedder:
    """`Model` of a service. Made by `load_service`."""

    def __init__(
        self,
        manifest: ServiceManifest,
        tokens: Tokens | ByteBound,
        golden: tuple[Sequence[str], Vectors],
        options: ServiceOptions,
        watch: Watch | None = None,
    ) -> None:
        """`golden`: texts, and their vectors when the model was added. Asks nobody yet."""
        self.manifest = manifest
        self.proved = False
        self._tokens = tokens
        self._golden = golden
        self._transport = HttpTransport(
            manifest.url,
            key_file=options.key_file,
            key_header=manifest.key_header,
            ca_certs=options.ca_certs,
            timeout_s=options.timeout_s,
        )
        self._asking = Asking(
            manifest,
            Control(self.encode(golden[0][:1])[0], golden[1][0]),
            self._transport,
            terms=options.terms,
            pace=Pace(options.limits, exact=isinstance(tokens, Tokens)),
            watch=watch,
        )
        self._thread = ServiceThread("penstock-service")
        self._counting = ThreadPoolExecutor(1, thread_name_prefix="penstock-tokenize")

    @property
    def dims(self) -> int:
        """Width of a vector."""
        return self.manifest.dims

    @property
    def progressed(self) -> float:
        """See `Embedder`."""
        return self._asking.progressed

    @property
    def waits(self) -> str | None:
        """See `Embedder`."""
        return self._asking.waits

    def encode(self, texts: Sequence[str]) -> list[Text]:
        """See `Embedder`; with the model's prefix for documents."""
        before = self.manifest.document_prefix
        counted: Sequence[Input] = self._tokens.encode(texts)
        return [Text(before + text, len(ids)) for text, ids in zip(texts, counted, strict=True)]

    async def on_tokenizers(self, work: Callable[[S], T], items: Sequence[S]) -> list[T]:
        """Split and count, on a thread of its own: `work` of each item, in order."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._counting, list, map(work, items))

    async def embed(self, inputs: Sequence[Text]) -> Embedding:
        """See `Asking.embed`."""
        return await self._thread.run(self._asking.embed(inputs))

    async def embed_query(self, text: str) -> list[float]:
        """See `Model`."""
        before = self.manifest.query_prefix
        (ids,) = self._tokens.encode([text], prefix=before)
        if len(ids) > self.manifest.max_tokens:
            raise ValueError(f"the text has {len(ids)} tokens, the model takes {self.manifest.max_tokens}")
        (found,) = await self._thread.run(self._asking.answered([Text(before + text, len(ids))], PATIENCE_S))
        return [float(x) for x in found]

    async def prove(self) -> float:
        """See `Embedder`: between the golden texts' vectors now and when the model was added."""
        texts, expected = self._golden
        made = await self._thread.run(self._asking.answered(self.encode(texts), PATIENCE_S))
        if (least := float(cosines(made, expected).min())) < GOLDEN_COSINE[SERVICE]:
            raise ModelChangedError(
                f"{self.manifest.name} gives other vectors than when it was added (least cosine {least:.5f}, needed "
                f"{GOLDEN_COSINE[SERVICE]}): the service has another model now. Have it serve {self.manifest.model} as "
                f"it was; or add the new one under another name with `penstock model add`, and {FURTHER_INDEX}",
                least,
            )
        self.proved = True
        return least

    def told(self) -> Told:
        """Where it is, this worker's part of what the fleet may ask, and whether it is waited for."""
        how = f"the service at {URL(self.manifest.url).host}"
        details = {"service": self.manifest.model, "share": self._asking.pace.share, "waits": self.waits}
        return Told(how=how, provider=SERVICE, precision=SERVICE, details=details)

    def take_share(self, share: float) -> None:
        """See `Model`."""
        self._asking.pace.share = max(LEAST_SHARE, share)

    def close(self) -> None:
        """See `Model`."""
        self._counting.shutdown(wait=False, cancel_futures=True)
        self._thread.close(self._transport.close)


def load_service(folder: Path, options: ServiceOptions, watch: Watch | None = None) -> ServiceEmbedder:
    """Read the manifest, and verify every file. Asks the service nothing yet: `ServiceEmbedder.prove` does.

    Raises PenstockError (no model), RefusedError (changed files) or ConfigError (a key that cannot be used).
    """
    manifest = manifest_of(folder)
    assert isinstance(manifest, ServiceManifest)  # noqa: S101 - whoever calls this has looked
    verify_files(folder, manifest)
    stored = json.loads((folder / GOLDEN).read_text())
    golden = stored["texts"], np.asarray(stored["vectors"], dtype=np.float32)
    return ServiceEmbedder(manifest, tokens_of(folder, manifest), golden, options, watch)

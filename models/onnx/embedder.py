"""A loaded, proved and warm model behind owned threads: some tokenise, and each lane of the session infers.

    embed   shapes ─► runs, all queued at once ─► lanes take them as they become free ─► vectors in the order given

Two calls of `embed` may be under way: the lanes go from the last runs of one straight to the first of the next.

The lane that ends the last run of a call embeds the canary right behind it. If that has its vector, whatever has become
of the model since, these runs were made before; if not, none of their vectors is returned.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import numpy as np

from models.cosines import AMONG_RUNS, cosines
from models.cosines import GOLDEN as GOLDEN_COSINE
from models.embedder import Embedding, Failure, Told
from models.golden import Golden, read_golden
from models.manifest import GOLDEN, ONNX, TOKENIZER, Manifest, read_manifest, verify_files
from models.onnx.choose import Constraints, Say, Verdict, choose
from models.onnx.runtime import Setup, usable_cores
from models.onnx.session import Session
from models.tokens import Tokens
from streams.cost import Used
from streams.errors import ModelChangedError, PenstockError
from streams.plan import Vectors
from streams.shapes import Run, Shapes
from streams.split import TokenIds

S = TypeVar("S")
T = TypeVar("T")


class OnnxEmbedder:
    """`Model` of an exported model. Made by `load_embedder`."""

    waits = None
    proved = True
    """When it was loaded."""

    def __init__(
        self,
        manifest: Manifest,
        tokens: Tokens,
        session: Session,
        shapes: Shapes,
        verdict: Verdict,
        golden: Golden,
    ) -> None:
        self.manifest = manifest
        self.tokens = tokens
        self.session = session
        self.shapes = shapes
        self.verdict = verdict
        self.golden = golden
        self._canary = golden.canary
        self._first: Vectors | None = None
        """The canary's vector when it was first embedded."""
        self.progressed = 0.0
        self._lane = threading.local()
        lanes = session.setup.lanes
        self._tokenizers = tokenizer_threads(session.setup, usable_cores())
        self._tokenizing = ThreadPoolExecutor(self._tokenizers, thread_name_prefix="penstock-tokenize")
        self._inferring = ThreadPoolExecutor(lanes, thread_name_prefix="penstock-infer")

    @property
    def dims(self) -> int:
        """Width of a vector."""
        return self.manifest.dims

    def encode(self, texts: Sequence[str]) -> Sequence[TokenIds]:
        """See `Embedder`; with the model's prefix for documents."""
        return self.tokens.encode(texts)

    async def on_tokenizers(self, work: Callable[[S], T], items: Sequence[S]) -> list[T]:
        """Split and count, which calls `tokens`, on the tokenizers' threads: `work` of each item, in order."""
        loop = asyncio.get_running_loop()
        size = -(-len(items) // self._tokenizers) or 1
        parts = [items[start : start + size] for start in range(0, len(items), size)]
        done = [loop.run_in_executor(self._tokenizing, list, map(work, part)) for part in parts]
        return [found for part in await asyncio.gather(*done) for found in part]

    async def embed(self, tokens: Sequence[TokenIds]) -> Embedding:
        """Run the model over these texts. A run that is out of memory is halved until it fits."""
        made = Embedding(
            vectors=np.zeros((len(tokens), self.manifest.dims), dtype=np.float32),
            runs=self.shapes.plan([len(ids) for ids in tokens]),
        )
        left = itertools.count(len(made.runs) - 1, -1)
        await asyncio.gather(*(self._run(run, tokens, made, left) for run in made.runs))
        made.seconds = made.busy_s / self.session.setup.lanes
        made.used = used_by(self.session.setup, made)
        self._require(made.canary, AMONG_RUNS, "when it was loaded")
        return made

    async def prove(self) -> float:
        """Embed the golden texts on a lane, as when the model was loaded."""
        try:
            least = await asyncio.get_running_loop().run_in_executor(self._inferring, golden_cosine, self)
        except MemoryError as exc:
            raise PenstockError(f"there is no memory for the golden texts: {exc}") from exc
        self._require(least, GOLDEN_COSINE, "at its export")
        return least

    def look(self) -> float:
        """Cosine of the canary's vector to the first one that was looked at. Blocks: on a lane's own thread."""
        try:
            (vector,) = self.session.run([self._canary])
        except MemoryError as exc:
            raise PenstockError(f"there is no memory for a single short text: {exc}") from exc
        if self._first is None:
            self._first = vector
        return float(cosines(vector, self._first))

    def _require(self, cosine: float, bounds: Mapping[str, float], since: str) -> None:
        """Raises ModelChangedError."""
        setup, name = self.session.setup, self.manifest.name
        if cosine < (needed := bounds[setup.precision]):
            raise ModelChangedError(
                f"model {name} on {setup} gives other vectors than {since} (least cosine {cosine:.5f}, needed "
                f"{needed}), and none of them was written. Start again; where that is refused too, look with `penstock "
                f"model verify {name}`, export it again, or choose another model.provider or model.precision",
                cosine,
            )

    async def _run(self, run: Run, tokens: Sequence[TokenIds], made: Embedding, left: Iterator[int]) -> None:
        loop = asyncio.get_running_loop()
        try:
            seconds, idle_s, short, behind_s = await loop.run_in_executor(
                self._inferring, lambda: self._halving(run, tokens, made, left)
            )
        except BaseException:
            self.shapes.dropped(run)
            raise
        self.progressed = time.monotonic()
        made.busy_s += seconds + behind_s
        made.idle_s += idle_s
        if short:
            self.shapes.failed(run)
        else:
            self.shapes.observe(run, seconds)

    def _halving(
        self, run: Run, tokens: Sequence[TokenIds], made: Embedding, left: Iterator[int]
    ) -> tuple[float, float, bool, float]:
        """On a lane. Returns the seconds it took, those since the lane's last run, whether memory was short, and those
        of the canary. `left`: how many runs of the call have not ended when this one has."""
        begun = time.monotonic()
        idle_s = begun - getattr(self._lane, "ended", begun)
        waiting, short = [run.members], False
        while waiting:
            members = waiting.pop()
            try:
                made.vectors[members] = self.session.run([tokens[index] for index in members])
            except MemoryError as exc:
                short = True
                half = len(members) // 2
                if half:
                    waiting += [members[half:], members[:half]]
                else:
                    made.failed[members[0]] = Failure("OutOfMemory", f"alone does not fit: {exc}")
        ended = time.monotonic()
        if next(left) == 0:  # one thread gets it: a step of an iterator in C is atomic
            made.canary = self.look()
        self._lane.ended = time.monotonic()
        return ended - begun, idle_s, short, self._lane.ended - ended

    def told(self) -> Told:
        """Setup, what was measured, and budgets of runs as they are now."""
        setup, refused = self.session.setup, self.verdict.proof.refused
        return Told(
            how=str(setup),
            provider=setup.provider,
            precision=setup.precision,
            sha256=self.manifest.files[ONNX],
            refused_widths=list(refused),
            details={
                "setup": asdict(setup),
                "measured": self.verdict.measured,
                "refused_widths": {str(width): cosine for width, cosine in refused.items()},
                "budgets": {str(width): tokens for width, tokens in self.shapes.budgets.items()},
            },
        )

    def take_share(self, share: float) -> None:
        """Its cores are its own."""

    async def embed_query(self, text: str) -> list[float]:
        """Vector of one search text, with the query prefix. Blocks for some milliseconds."""
        ids = self.tokens.encode([text], prefix=self.manifest.query_prefix)
        if len(ids[0]) > self.manifest.max_tokens:
            raise ValueError(f"the text has {len(ids[0])} tokens, the model takes {self.manifest.max_tokens}")
        return [float(x) for x in self.session.embed(ids)[0]]

    def close(self) -> None:
        """Let the threads go; a run in progress finishes by itself."""
        self._tokenizing.shutdown(wait=False, cancel_futures=True)
        self._inferring.shutdown(wait=False, cancel_futures=True)


def used_by(setup: Setup, made: Embedding) -> Used:
    """A lane's threads are busy while it is; the lanes of a GPU share that, and a core beside it is not counted."""
    tokens = sum(run.tokens for run in made.runs)
    if setup.provider == "cuda":
        return Used(tokens=tokens, gpu_us=round(made.busy_s / setup.lanes * 1e6))
    return Used(tokens=tokens, core_us=round(made.busy_s * setup.threads * 1e6))


def tokenizer_threads(setup: Setup, cores: int) -> int:
    """Threads that tokenise: one where the lanes take all cores; beside a GPU more, up to what Python lets run."""
    return min(4, max(1, cores - 2)) if setup.provider == "cuda" else 1


def load_embedder(
    folder: Path,
    *,
    wanted: Constraints | None = None,
    shapes: Shapes | None = None,
    say: Say = lambda _: None,
) -> OnnxEmbedder:
    """Read the manifest, verify every file, choose and prove the setup, warm up, compare the golden texts.

    Blocks for about a second, and for some twenty the first time on a machine. Raises PenstockError (no model, no
    provider), RefusedError (changed files) or ModelChangedError (vectors that are not the exported model's).
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    tokens = Tokens(folder / TOKENIZER, prefix=manifest.document_prefix)
    verdict = choose(folder, manifest, wanted or Constraints(), say=say)
    session = Session(folder, manifest, verdict.setup)
    if refused := verdict.proof.refused:
        session.pad_past(refused)
        for bound, least in refused.items():
            say(
                f"{verdict.setup} gives wrong vectors at a width of {bound} tokens (least cosine to fp32 {least:.3f}): "
                f"such texts are padded to {session.widths.of(bound)}"
            )
    shapes = shapes or Shapes()
    shapes.bound(verdict.proof.most)
    golden = read_golden(folder / GOLDEN, tokens.encode)
    embedder = OnnxEmbedder(manifest, tokens, session, shapes, verdict, golden)
    try:
        embedder._require(golden_cosine(embedder), GOLDEN_COSINE, "at its export")
        embedder.look()
    except BaseException:
        embedder.close()
        raise
    return embedder


def golden_cosine(embedder: OnnxEmbedder) -> float:
    """Least cosine between the golden texts' vectors now and as stored. Blocks; also warms the session up."""
    found = embedder.session.embed(embedder.golden.texts)
    if found.shape != embedder.golden.vectors.shape:
        return -1.0
    return float(cosines(found, embedder.golden.vectors).min())

"""Lanes, shortage of memory, and the choice of a setup: kept beside the model, never silent."""

import asyncio
import itertools
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from models.cosines import IN_ONE_INDEX
from models.export.exporter import compare_vectors
from models.golden import CANARY_TOKENS, Golden
from models.manifest import Manifest, read_manifest
from models.onnx import choose as verdict_module
from models.onnx.choose import Constraints, Verdict, choose, kept
from models.onnx.embedder import OnnxEmbedder, load_embedder
from models.onnx.proof import Proof
from models.onnx.runtime import Setup
from models.onnx.session import Session
from models.onnx.setups import SETUPS
from models.tokens import Tokens
from streams.contract import differences
from streams.errors import ModelChangedError, PenstockError
from streams.shapes import Shapes
from streams.split import TokenIds
from tests.kit import ports

SETUP = Setup(provider="cpu", precision="fp32", lanes=2, threads=1)


class SmallSession:
    """Vectors are the number of tokens; so many of them at a time fit into memory."""

    def __init__(self, room: int) -> None:
        self.setup = SETUP
        self.room = room
        self.threads: set[str] = set()
        self.together = threading.Barrier(2, timeout=120)

    def run(self, batch: Sequence[TokenIds]) -> Any:
        self.threads.add(threading.current_thread().name)
        if max(map(len, batch)) * len(batch) > self.room:
            raise MemoryError("Failed to allocate memory")
        return np.asarray([[len(ids), 1.0] for ids in batch], dtype=np.float32)

    def embed(self, tokens: Sequence[TokenIds]) -> Any:
        return np.vstack([self.run([ids]) for ids in tokens])


class SwappedSession(SmallSession):
    """Another model from its `after`th run on; its runs take as long as they like."""

    def __init__(self, after: int) -> None:
        super().__init__(10**6)
        self.after = after
        self.runs = itertools.count()

    def run(self, batch: Sequence[TokenIds]) -> Any:
        right, number = super().run(batch), next(self.runs)
        time.sleep(random.random() / 500)
        return right if number < self.after else right[:, ::-1]


def small(room: int, shapes: Shapes | None = None, session: SmallSession | None = None) -> OnnxEmbedder:
    manifest = cast(Manifest, SimpleNamespace(dims=2, name="small"))
    golden = Golden(
        texts=[[1] * CANARY_TOKENS, [1] * 40], vectors=np.asarray([[CANARY_TOKENS, 1], [40, 1]], np.float32)
    )
    used, verdict = cast(Session, session or SmallSession(room)), Verdict(setup=SETUP, measured={})
    return OnnxEmbedder(manifest, cast(Tokens, None), used, shapes or Shapes(fixed=1024), verdict, golden)


def test_the_real_one_keeps_what_is_said_of_the_port(embedder: OnnxEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    def swap() -> None:
        real = embedder.session.run
        monkeypatch.setattr(embedder.session, "run", lambda batch: real(batch)[:, ::-1])

    asyncio.run(ports.holds_for_embedder(embedder, IN_ONE_INDEX["float"], swap))


@pytest.mark.parametrize("after", range(1, 24))
def test_no_vector_of_a_model_that_was_swapped_is_returned(after: int) -> None:
    """At whichever run, though two lanes and two calls are at it."""
    embedder = small(0, Shapes(fixed=64), SwappedSession(after))
    embedder.look()
    returned = list[float]()

    async def call() -> None:
        for _ in range(3):
            returned.extend((await embedder.embed([[1] * 20] * 10)).vectors[:, 0])

    async def both() -> None:
        await asyncio.gather(call(), call(), return_exceptions=True)
        with pytest.raises(ModelChangedError, match=r"small on cpu .* cosine 0\.\d+, needed 0\.9999") as caught:
            await embedder.embed([[1] * 20] * 30)
        assert caught.value.cosine < 0.5
        with pytest.raises(ModelChangedError, match="at its export"):
            await embedder.prove()

    asyncio.run(both())
    assert set(returned) <= {20}
    embedder.close()


def test_a_model_that_stays_what_it_is_is_proved_by_every_call(embedder: OnnxEmbedder) -> None:
    async def calls() -> None:
        for length in range(1, 60):
            assert (await embedder.embed([[101, *range(2000, 2000 + length), 102]])).canary > 0.99999
        assert await embedder.prove() > 0.999

    asyncio.run(calls())


def test_a_canary_without_memory_proves_nothing() -> None:
    embedder = small(room=10)
    with pytest.raises(PenstockError, match="no memory for a single short text"):
        asyncio.run(embedder.embed([[1] * 8]))
    with pytest.raises(PenstockError, match="no memory for the golden texts"):
        asyncio.run(embedder.prove())
    embedder.close()


def test_a_run_out_of_memory_is_halved_and_its_size_not_tried_again() -> None:
    """Fault 24."""
    embedder = small(room=200, shapes=Shapes())
    made = asyncio.run(embedder.embed([[1] * 20] * 100))
    assert made.failed == {}
    assert (made.vectors[:, 0] == 20).all()
    again = asyncio.run(embedder.embed([[1] * 20] * 100))
    assert max(len(run.members) * run.width for run in again.runs) <= 512
    embedder.close()


def test_one_text_that_does_not_fit_alone_fails_alone() -> None:
    embedder = small(room=200)
    made = asyncio.run(embedder.embed([[1] * 20, [1] * 300, [1] * 30]))
    assert list(made.failed) == [1]
    assert made.vectors[:, 0].tolist() == [20, 0, 30]
    embedder.close()


def test_lanes_run_at_the_same_time() -> None:
    embedder = small(room=10**6, shapes=Shapes(fixed=64))
    session = cast(SmallSession, embedder.session)
    real = session.run

    def run(batch: Sequence[TokenIds]) -> Any:
        if len(batch) > 1:  # the canary is alone
            session.together.wait()  # for the other lane
        return real(batch)

    session.run = run  # type: ignore[method-assign]
    made = asyncio.run(embedder.embed([[1] * 20] * 12))
    assert len(made.runs) == 4
    assert len(session.threads) == 2
    assert made.busy_s > 0
    embedder.close()


SHORT_OF_MEMORY = """
import asyncio, resource, sys
from pathlib import Path
from models.onnx.embedder import load_embedder
from models.onnx.choose import Constraints
from streams.shapes import Shapes

embedder = load_embedder(Path(sys.argv[1]), wanted=Constraints(provider="cpu", threads=1), shapes=Shapes(fixed=16384))
tokens = embedder.tokens.encode(["word " * 250] * 64)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100 * 1024**2,) * 2)
made = asyncio.run(embedder.embed(tokens))
print(len(made.failed), float((made.vectors[0] * made.vectors[-1]).sum()), max(embedder.shapes.budgets.values()))
embedder.close()
"""


def test_the_real_session_goes_on_when_memory_is_short(model_folder: Path) -> None:
    """Fault 24, on the processor: 16,384 tokens need more than 100 MiB, some thousand do not."""
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY, model_folder],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    failed, cosine, budget = done.stdout.split()
    assert (failed, round(float(cosine), 3)) == ("0", 1.0)
    assert int(budget) <= 8192


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Setup]:
    """Setups that were measured: the more lanes the faster, OpenVINO not to be had."""
    asked: list[Setup] = []

    def measure(_: Path, __: Manifest, setup: Setup, say: Any) -> float | str:
        asked.append(setup)
        return "no such library" if setup.provider == "openvino" else 100.0 * setup.lanes

    monkeypatch.setattr(verdict_module, "_measure", measure)
    monkeypatch.setattr(verdict_module, "_prove", lambda *_: Proof())
    monkeypatch.setattr(verdict_module, "reference_of", lambda *_: None)
    monkeypatch.setattr(
        verdict_module, "available_providers", lambda: ["OpenVINOExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(verdict_module, "usable_cores", lambda: 2)
    monkeypatch.setattr(verdict_module, "computes_bf16", lambda: False)
    return asked


def test_a_setup_is_measured_once_and_kept(model_folder: Path, tmp_path: Path, measured: list[Setup]) -> None:
    manifest, said = read_manifest(model_folder), list[str]()
    found = choose(tmp_path, manifest, Constraints(), say=said.append)
    assert str(found.setup) == "cpu fp32, 2 lanes of 1 thread"
    assert found.measured["openvino fp32, 2 lanes of 1 thread"] == "no such library"
    assert "measuring what is fastest here, once: 4 setups" in said[0]
    assert len(measured) == 4
    assert kept(tmp_path, manifest, Constraints()) == found == choose(tmp_path, manifest, Constraints())
    assert len(measured) == 4
    kept_there = json.loads((tmp_path / SETUPS).read_text())
    assert [len(kept_there), len(kept_there["proofs"])] == [2, 1]
    choose(tmp_path, manifest, Constraints(threads=1))  # another machine, as far as that goes
    assert len(measured) == 6


@pytest.mark.parametrize(
    ("threads_rate", "setup"), [(1.1, "cpu fp32, 2 lanes of 1 thread"), (1.3, "cpu fp32, 1 lane of 2 threads")]
)
def test_a_run_has_several_threads_only_where_that_is_clearly_faster(
    model_folder: Path,
    tmp_path: Path,
    measured: list[Setup],
    monkeypatch: pytest.MonkeyPatch,
    threads_rate: float,
    setup: str,
) -> None:
    monkeypatch.setattr(verdict_module, "_measure", lambda *given: threads_rate if given[2].threads > 1 else 1.0)
    wanted = Constraints(provider="cpu")
    assert str(choose(tmp_path, read_manifest(model_folder), wanted).setup) == setup
    assert str(choose(tmp_path, read_manifest(model_folder), wanted).setup) == setup, "kept"


def test_what_cannot_be_had_is_an_error_when_asked_for(
    model_folder: Path, tmp_path: Path, measured: list[Setup]
) -> None:
    with pytest.raises(PenstockError, match="runs on no provider here: .*no such library"):
        choose(tmp_path, read_manifest(model_folder), Constraints(provider="openvino"))
    assert measured


def test_a_folder_that_cannot_be_written_is_said(model_folder: Path, tmp_path: Path, measured: list[Setup]) -> None:
    said: list[str] = []
    choose(tmp_path / "missing", read_manifest(model_folder), Constraints(), say=said.append)
    assert measured
    assert "every start finds out again" in said[-1]


def test_fp16_shares_an_index_with_fp32_and_int8_does_not(model_folder: Path) -> None:
    fp32 = read_manifest(model_folder)
    other = {**fp32.files, "model.onnx": "another"}
    fp16 = replace(fp32, name="half", precision="fp16", files=other)
    int8 = replace(fp32, name="small", precision="int8", files=other, shares={})
    assert differences({"model": fp32.contract()}, {"model": fp16.contract()}) == []
    found = differences({"model": fp32.contract()}, {"model": int8.contract()})
    assert [line.split(":")[0] for line in found] == ["model.onnx_sha256", "model.precision"]


def test_quality_is_cosine_and_common_neighbours() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((40, 8)).astype(np.float32)
    same = compare_vectors(vectors, 3 * vectors)
    assert same["overlap_top10"] == 1.0
    assert same["cosine_min"] > 0.99999
    other = compare_vectors(vectors, rng.standard_normal((40, 8)).astype(np.float32))
    assert other["overlap_top10"] < 0.6


def test_what_may_share_an_index_has_the_same_vectors(model_folder: Path) -> None:
    """Cosine ≥ 0.999 of bf16 to fp32, where this processor and runtime have it."""
    try:
        embedder = load_embedder(model_folder, wanted=Constraints(precision="bf16"))
    except PenstockError as exc:
        pytest.skip(str(exc))
    reference = load_embedder(model_folder, wanted=Constraints(provider="cpu", precision="fp32"))
    texts = [f"{'word ' * length} and what follows {length}" for length in range(1, 200, 7)]
    tokens = embedder.tokens.encode(texts)
    cosines = (embedder.session.embed(tokens) * reference.session.embed(tokens)).sum(axis=1)
    assert cosines.min() >= 0.999
    embedder.close()
    reference.close()

"""At length: a text's vector does not depend on the batch that it is in, for every precision and provider here."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.local.demo import bundled_model
from agents.settings.environment import cache_dir
from agents.sources.pydocs import real_texts
from models.cosines import AMONG_RUNS, TO_FP32, cosines
from models.export.exporter import PrecisionName, ensure_model
from models.golden import read_golden
from models.manifest import GOLDEN, TOKENIZER, read_manifest
from models.onnx.choose import Verdict
from models.onnx.embedder import OnnxEmbedder
from models.onnx.proof import prove
from models.onnx.reference import reference_of, singly
from models.onnx.runtime import PROVIDERS, Setup, computes_bf16, usable_cores
from models.onnx.session import Session, available_providers
from models.tokens import Tokens
from streams.shapes import Shapes
from tests.conftest import MODEL

CANARIES = 1000
MODELS: dict[str, PrecisionName] = {MODEL: "fp32", f"{MODEL}-fp16": "fp16", f"{MODEL}-int8": "int8"}


def setups() -> Iterator[tuple[str, Setup]]:
    """Every model on every provider, and in bf16 where this processor has it."""
    for name, precision in MODELS.items():
        for provider, full_name in PROVIDERS.items():
            if full_name not in available_providers() or (precision == "fp16" and provider != "cuda"):
                continue
            bf16 = provider == "openvino" and precision == "fp32" and computes_bf16()
            for computed in (precision, *(["bf16"] if bf16 else [])):
                yield name, Setup(provider=provider, precision=computed, lanes=usable_cores(), threads=1)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "setup"), [pytest.param(*row, id=f"{row[0]}-{row[1]}") for row in setups()])
def test_a_vector_does_not_depend_on_its_batch(name: str, setup: Setup, summary: dict[str, Any]) -> None:
    """400 runs of all widths, rows and mixtures by a setup that is used: proved, and not out."""
    folder = exported(name)
    manifest = read_manifest(folder)
    session, reference = Session(folder, manifest, setup), reference_of(folder, manifest, usable_cores())
    if out := prove(session, reference).out:
        pytest.skip(f"{setup} is not used here: {out}")
    least = {"to fp32": 1.0, "among runs": 1.0}
    texts = pool(folder, manifest.max_tokens)
    alone = singly(session, texts)

    @settings(max_examples=400)
    @given(runs(len(texts)))
    def check(members: list[int]) -> None:
        found = float(cosines(session.run([texts[place] for place in members]), alone[members]).min())
        least["among runs"] = min(least["among runs"], found)
        assert found >= AMONG_RUNS[setup.precision]

    check()
    least["to fp32"] = float(cosines(singly(session, reference.texts), reference.vectors).min())
    assert least["to fp32"] >= TO_FP32[setup.precision]
    summary[f"least cosines, {name} on {setup}"] = least


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "setup"), [pytest.param(*row, id=f"{row[0]}-{row[1]}") for row in setups()])
def test_no_canary_is_a_false_alarm(name: str, setup: Setup, summary: dict[str, Any]) -> None:
    """1,000 of them behind batches of all widths, two calls at a time; and all golden texts a hundred times."""
    embedder = embedder_of(name, setup)
    texts, rng, least = (
        pool(exported(name), embedder.manifest.max_tokens),
        random.Random(7),
        {"canary": 1.0, "all": 1.0},
    )

    async def calls() -> None:
        for number in range(CANARIES // 2):
            made = await embedder.embed(rng.choices(texts, k=rng.randint(1, 4)))
            least["canary"] = min(least["canary"], made.canary)
            if number % 10 == 0:
                least["all"] = min(least["all"], await embedder.prove())

    async def both() -> None:
        await asyncio.gather(calls(), calls())

    asyncio.run(both())
    embedder.close()
    summary[f"least cosines of {CANARIES} canaries, {name} on {setup}"] = least


def embedder_of(name: str, setup: Setup) -> OnnxEmbedder:
    """In this very setup; skips the test where that is not used."""
    folder = exported(name)
    manifest, tokens = read_manifest(folder), Tokens(folder / TOKENIZER)
    session = Session(folder, manifest, setup)
    proof = prove(session, reference_of(folder, manifest, usable_cores()))
    if proof.out:
        pytest.skip(f"{setup} is not used here: {proof.out}")
    verdict, golden = Verdict(setup=setup, measured={}, proof=proof), read_golden(folder / GOLDEN, tokens.encode)
    embedder = OnnxEmbedder(manifest, tokens, session, Shapes(), verdict, golden)
    embedder.look()
    return embedder


def exported(name: str) -> Path:
    """Folder of one of `MODELS`."""
    folder = cache_dir() / "models" / name
    ensure_model(
        str(bundled_model()),
        name=name,
        models=folder.parent,
        cache=cache_dir(),
        say=print,
        precision=MODELS[name],
        texts=real_texts() if MODELS[name] != "fp32" else (),
    )
    return folder


def pool(folder: Path, limit: int) -> list[Any]:
    """A real text of every width from 3 to the limit."""
    pieces = real_texts(60)
    tokens = Tokens(folder / TOKENIZER).encode([" ".join(pieces[start : start + 3]) for start in range(0, 60, 3)])
    long = [ids for ids in tokens if len(ids) >= limit]
    return [[*long[width % len(long)][: width - 1], long[0][-1]] for width in range(3, limit + 1)]


def runs(texts: int) -> st.SearchStrategy[list[int]]:
    """Any mixture, or texts of nearly one width; many rows where they are short."""
    place = st.integers(0, texts - 1)
    mixed = st.lists(place, min_size=1, max_size=12)
    alike = st.tuples(place, st.lists(st.integers(0, 9), min_size=1, max_size=64)).map(
        lambda drawn: [max(0, drawn[0] - step) for step in drawn[1][: max(1, 4096 // (drawn[0] + 3))]]
    )
    return mixed | alike

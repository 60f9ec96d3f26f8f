"""Every width that a run may have is proved, and a wrong one padded past: sessions that are wrong on purpose."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.cosines import AMONG_RUNS, TO_FP32, cosines
from models.manifest import MANIFEST, Manifest, read_manifest, write_manifest
from models.onnx import choose as verdict_module
from models.onnx import embedder as embedder_module
from models.onnx.choose import Constraints, choose, kept
from models.onnx.embedder import OnnxEmbedder, load_embedder
from models.onnx.proof import BUDGETS, Proof, planned, prove
from models.onnx.reference import Reference, read_reference, reference_of, singly, write_reference
from models.onnx.runtime import Setup, usable_cores
from models.onnx.session import Session, available_providers
from models.onnx.setups import SETUPS
from models.onnx.widths import Widths, bounds_up_to, classes
from streams.errors import RefusedError
from streams.plan import Vectors
from streams.split import TokenIds

PROVIDERS = [
    name for name in ("openvino", "cpu") if f"{name}executionprovider" in map(str.lower, available_providers())
]
SMALL = 64
"""The model's limit in most of these tests: eight classes of widths are proved in a second or two."""
Wrong = Callable[[Any, Sequence[TokenIds], int], bool]


@pytest.fixture(scope="module")
def small(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real model with a limit of 64 tokens, and nothing known of this machine."""
    folder = tmp_path_factory.mktemp("small")
    for file in model_folder.iterdir():
        if file.name not in (MANIFEST, SETUPS):
            (folder / file.name).symlink_to(file)
    write_manifest(folder, replace(read_manifest(model_folder), max_tokens=SMALL))
    return folder


@pytest.fixture(scope="module")
def reference(small: Path) -> Reference:
    return reference_of(small, read_manifest(small), usable_cores())


@pytest.fixture
def fresh(small: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, its golden texts left out: some are longer."""
    (small / SETUPS).unlink(missing_ok=True)
    monkeypatch.setattr(embedder_module, "golden_cosine", lambda *_: 1.0)
    monkeypatch.setattr(verdict_module, "_measure", lambda *_: 100.0)
    return small


def turned(vectors: Vectors) -> Vectors:
    """Cosine 0.8 to what they were, or so."""
    return np.asarray(0.8 * vectors + 0.6 * np.roll(vectors, 7, axis=1), dtype=np.float32)


def wrong_where(wrong: Wrong) -> type[Session]:
    """A real session, but every vector of some runs is another one."""

    class WrongSession(Session):
        def run(self, batch: Sequence[TokenIds]) -> Vectors:
            vectors = super().run(batch)
            if wrong(self, batch, self.widths.of(max(map(len, batch)))):
                return turned(vectors)
            return vectors

    return WrongSession


class FakeSession:
    """The reference's own vectors, but where `wrong`; as quick as one likes."""

    def __init__(self, reference: Reference, wrong: Wrong) -> None:
        self.setup = setup_of("openvino")
        self.widths = Widths(bounds=bounds_up_to(SMALL), exact=False)
        self._vectors = {tuple(ids): vector for ids, vector in zip(reference.texts, reference.vectors, strict=True)}
        self._wrong = wrong

    pad_past = Session.pad_past

    def run(self, batch: Sequence[TokenIds]) -> Vectors:
        vectors = np.stack([self._vectors[tuple(ids)] for ids in batch])
        wrong = self._wrong(self, batch, self.widths.of(max(map(len, batch))))
        return turned(vectors) if wrong else vectors


def fake(reference: Reference, wrong: Wrong) -> Any:
    return FakeSession(reference, wrong)


def setup_of(provider: str) -> Setup:
    return Setup(provider=provider, precision="fp32", lanes=2, threads=1)


def least_cosine(embedder: OnnxEmbedder, reference: Reference) -> float:
    made = asyncio.run(embedder.embed(reference.texts))
    alone = singly(embedder.session, reference.texts)
    return float(min(cosines(made.vectors, reference.vectors).min(), cosines(alone, reference.vectors).min()))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_width_whose_runs_are_wrong_is_padded_past_and_that_is_said_and_kept(
    provider: Any, fresh: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What int8 mixed with bf16 did on AMX: every run of 32 tokens, whatever is in it, and no other."""
    session = wrong_where(lambda _, __, width: width == 32)
    monkeypatch.setattr(verdict_module, "Session", session)
    monkeypatch.setattr(embedder_module, "Session", session)
    said: list[str] = []
    loaded = load_embedder(fresh, wanted=Constraints(provider=provider), say=said.append)
    assert least_cosine(loaded, reference) >= TO_FP32["fp32"]
    assert list(loaded.verdict.proof.refused) == [32]
    assert loaded.session.widths.of(31) == loaded.session.widths.of(32) == 40
    assert [loaded.session.widths.of(width) for width in (24, 40)] == [24, 40]
    (line,) = [line for line in said if "wrong vectors at a width of 32 tokens (least cosine to fp32 0." in line]
    assert line.endswith("such texts are padded to 40")
    loaded.close()

    said.clear()
    monkeypatch.setattr(verdict_module, "_prove", lambda *_: pytest.fail("proved again"))
    again = load_embedder(fresh, wanted=Constraints(provider=provider), say=said.append)
    assert again.verdict == loaded.verdict == kept(fresh, read_manifest(fresh), Constraints(provider=provider))
    assert line in said, "said at every start"
    again.close()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("the widest class has none above it", lambda _, __, width: width > SMALL - 8),
        ("texts that stand alone", lambda _, batch, __: len(batch) == 1 and len(batch[0]) > 20),
        ("some texts at any width", lambda _, batch, __: any(len(ids) in (21, 28) for ids in batch)),
        ("everything", lambda *_: True),
    ],
)
def test_a_setup_that_padding_does_not_mend_is_out(name: str, wrong: Wrong, reference: Reference) -> None:
    found = prove(fake(reference, wrong), reference)
    assert found.out, name
    assert "least cosine to fp32 0." in found.out
    assert "needed 0.9999" in found.out


@pytest.mark.parametrize("rows", [1, "many", "padded", "full"])
def test_a_fault_of_some_rows_only_is_found(rows: Any, reference: Reference) -> None:
    def wrong(_: Session, batch: Sequence[TokenIds], width: int) -> bool:
        lengths = set(map(len, batch))
        padded = min(lengths) < width
        asked = {"many": len(batch) > 3, "padded": padded, "full": width in lengths}
        return width == 40 and (asked[rows] if rows in asked else len(batch) == rows)

    found = prove(fake(reference, wrong), reference)
    assert (list(found.refused), found.out) == ([40], None)


def test_a_run_that_does_not_fit_into_memory_proves_nothing_and_is_not_planned(reference: Reference) -> None:
    def short(_: Session, batch: Sequence[TokenIds], width: int) -> bool:
        if width * len(batch) > 400:
            raise MemoryError("Failed to allocate memory")
        return width == 32

    found = prove(fake(reference, short), reference)
    assert (list(found.refused), found.out) == ([32], None)
    assert found.most <= 400


def test_the_next_setup_is_taken_and_the_wrong_one_is_remembered(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if len(PROVIDERS) < 2:
        pytest.skip("one provider here")
    monkeypatch.setattr(verdict_module, "reference_of", lambda *_: None)
    monkeypatch.setattr(
        verdict_module,
        "_prove",
        lambda _, __, setup, ___: Proof(out="wrong vectors, at 8 tokens too" if setup.provider == "openvino" else None),
    )
    monkeypatch.setattr(
        verdict_module, "_measure", lambda _, __, setup, ___: 200.0 if setup.provider == "openvino" else 100.0
    )
    said: list[str] = []
    found = choose(fresh, read_manifest(fresh), Constraints(), say=said.append)
    assert found.setup.provider == "cpu"
    setups = verdict_module._candidates(read_manifest(fresh), Constraints())
    wrong = sorted((setup for setup in setups if setup.provider == "openvino"), key=lambda setup: setup.threads)
    assert [line.split(" is not used")[0] for line in said if "is not used: wrong vectors" in line] == list(
        map(str, wrong)
    )
    assert kept(fresh, read_manifest(fresh), Constraints()) == found
    first = f"openvino {wrong[0].precision}, "
    with pytest.raises(RefusedError, match=rf"wrong vectors here: {first}.*Choose another model\.provider"):
        choose(fresh, read_manifest(fresh), Constraints(provider="openvino"))
    assert kept(fresh, read_manifest(fresh), Constraints(provider="openvino")) is None


def test_what_was_found_is_kept_in_the_cache_when_the_folder_is_read_only(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proved: list[Setup] = []

    def prove_it(_: Path, __: Manifest, setup: Setup, ___: Reference) -> Proof:
        proved.append(setup)
        return Proof(refused={32: 0.75}, most=1024)

    monkeypatch.setattr(verdict_module, "_prove", prove_it)
    monkeypatch.setattr(verdict_module, "reference_of", lambda *_: None)
    said: list[str] = []
    manifest, wanted = read_manifest(fresh), Constraints(cache=tmp_path / "cache")
    for _ in range(2):
        choose(tmp_path / "gone", manifest, wanted, say=said.append)
    assert len(proved) == 1
    assert not any("cannot be written" in line for line in said)
    (file,) = (tmp_path / "cache" / "setups").iterdir()
    assert "proofs" in json.loads(file.read_text())
    choose(tmp_path / "gone", manifest, Constraints(cache=file), say=said.append)
    assert "cannot be written: every start finds out again" in said[-1]


def test_an_int8_model_without_fp32_vectors_is_exported_again(model_folder: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path, replace(read_manifest(model_folder), precision="int8"))
    with pytest.raises(RefusedError, match=r"reference\.npz.*export it again with .*--precision int8"):
        read_manifest(tmp_path)


def test_a_reference_is_read_as_it_was_written(reference: Reference, tmp_path: Path) -> None:
    write_reference(tmp_path / "reference.npz", reference)
    found = read_reference(tmp_path / "reference.npz")
    assert [ids.tolist() for ids in found.texts] == [ids.tolist() for ids in reference.texts]
    assert (found.vectors == reference.vectors).all()
    (tmp_path / "reference.npz").write_bytes(b"PK")
    with pytest.raises(RefusedError, match="export the model again"):
        read_reference(tmp_path / "reference.npz")


@given(st.integers(1, 10_000), st.sampled_from([8, 16]))
def test_every_width_has_a_class(limit: int, unit: int) -> None:
    bounds = bounds_up_to(limit, unit)
    assert bounds[-1] == limit
    assert list(bounds) == sorted(set(bounds))
    assert all(greatest - least < max(unit, least / 4) for least, greatest in classes(bounds))
    assert len(bounds) <= 110


@given(st.data())
def test_padding_goes_past_refused_classes_only(data: st.DataObject) -> None:
    bounds = bounds_up_to(256)
    refused = frozenset(data.draw(st.sets(st.sampled_from(bounds[:-1]))))
    widths = Widths(bounds=bounds, exact=data.draw(st.booleans()), refused=refused)
    longest = data.draw(st.integers(1, 256))
    width = widths.of(longest)
    own = next(bound for bound in bounds if bound >= longest)
    assert longest <= width
    assert next(bound for bound in bounds if bound >= width) not in refused
    if own not in refused:
        assert width == (longest if widths.exact else own)


@pytest.mark.parametrize("limit", [64, 256, 512])
def test_each_class_is_proved_alone_padded_and_with_others(limit: int) -> None:
    bounds = bounds_up_to(limit)
    lengths = [length for least, bound in classes(bounds) for length in (least, bound)]
    runs = list(planned(bounds, lengths))
    for bound in bounds:
        own = [[lengths[place] for place in run.members] for run in runs if run.bound == bound]
        assert [bound] in own
        assert any(max(rows) < bound for rows in own), "padded"
        assert any(max(rows) == bound and min(rows) < bound for rows in own)
        assert all(rows == sorted(rows, reverse=True) for rows in own)
        assert all(bound * len(rows) <= max(*BUDGETS, 2 * bound, 3 * bound) for rows in own)
    assert len({len(run.members) for run in runs}) >= 6


@pytest.mark.parametrize("provider", PROVIDERS)
def test_vectors_do_not_depend_on_the_batch(provider: str, small: Path, reference: Reference) -> None:
    """The quick version: `tests/chaos/test_vectors.py` has every precision, and all widths."""
    session = Session(small, read_manifest(small), setup_of(provider))
    alone = singly(session, reference.texts)

    @settings(max_examples=40)
    @given(st.lists(st.integers(0, len(reference.texts) - 1), min_size=1, max_size=24))
    def check(members: list[int]) -> None:
        vectors = session.run([reference.texts[place] for place in members])
        assert cosines(vectors, alone[members]).min() >= AMONG_RUNS["fp32"]

    check()


def test_a_real_setup_is_proved(small: Path, reference: Reference) -> None:
    for provider in PROVIDERS:
        found = prove(Session(small, read_manifest(small), setup_of(provider)), reference)
        assert (found.refused, found.out) == ({}, None)
        assert found.least >= TO_FP32["fp32"]
        assert found.most >= max(BUDGETS)


def test_a_zero_vector_is_like_nothing() -> None:
    rows = np.asarray([[1, 0], [0, 0], [np.nan, 1]], dtype=np.float32)
    assert cosines(rows, np.ones((3, 2), dtype=np.float32)).tolist() == pytest.approx([2**-0.5, -1, -1])

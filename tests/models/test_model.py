"""The exported model: equal to sentence-transformers, proved at load, and never truncating."""

import hashlib
import json
import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.local.demo import bundled_model
from agents.settings.environment import cache_dir
from agents.sources.pydocs import read_modules
from models.export import exporter
from models.manifest import read_manifest
from models.onnx import bound as bound_module
from models.onnx.embedder import OnnxEmbedder, load_embedder
from models.onnx.proof import Proof
from models.onnx.runtime import Setup, candidates, prove_provider, require_one_runtime, require_provider
from models.onnx.session import ROWS, WIDTHS, Session, bind, padded
from models.onnx.widths import Widths, bounds_up_to
from streams.errors import ConfigError, PenstockError, RefusedError
from streams.split import SplitRules, split_text
from tests.kit.harness import PENSTOCK


def rules(embedder: OnnxEmbedder, max_chars: int = 1000) -> SplitRules:
    return SplitRules(max_chars=max_chars, overlap_chars=max_chars // 10, max_tokens=embedder.manifest.max_tokens)


@cache
def documentation() -> list[str]:
    """Some real documents; reading all takes seconds."""
    return [orjson.loads(document.value or b"")["text"] for document in islice(read_modules(), 20)]


def real_texts(embedder: OnnxEmbedder, count: int) -> list[str]:
    """Chunks of real documents, of all lengths up to the model's limit."""
    source = documentation()
    shuffled = random.Random(3)
    texts: list[str] = []
    while len(texts) < count:
        text = shuffled.choice(source)
        start = shuffled.randrange(max(1, len(text) - 2000))
        size = shuffled.choice([20, 60, 150, 400, 900, 1500])
        texts += [
            chunk.text
            for chunk in split_text(text[start : start + size], rules(embedder, 2000), embedder.tokens.encode)[:1]
        ]
    return texts


def test_vectors_equal_sentence_transformers(embedder: OnnxEmbedder, tmp_path: Path) -> None:
    """200 real texts of all lengths, embedded by the original in the export environment, once an environment."""
    texts = real_texts(embedder, 200)
    lengths = [len(ids) for ids in embedder.tokens.encode(texts)]
    assert min(lengths) < 16
    assert max(lengths) > 240
    python = exporter.environment(cache_dir(), print)
    script = (
        "import json, sys\n"
        "from sentence_transformers import SentenceTransformer\n"
        "vectors = SentenceTransformer(sys.argv[1], device='cpu').encode(json.load(open(sys.argv[2])), batch_size=8)\n"
        "json.dump([[float(x) for x in v] for v in vectors], open(sys.argv[3], 'w'))\n"
    )
    given_texts, result = tmp_path / "texts.json", tmp_path / "vectors.json"
    given_texts.write_text(json.dumps(texts))
    weights = (bundled_model() / "model.safetensors").read_bytes()
    what = hashlib.sha256(b"".join([script.encode(), given_texts.read_bytes(), weights])).hexdigest()
    kept = python.parents[1] / f"reference-{what[:16]}.json"
    if not kept.exists():
        subprocess.run([python, "-c", script, bundled_model(), given_texts, result], check=True, capture_output=True)
        shutil.move(result, kept)
    reference = np.asarray(json.loads(kept.read_text()), dtype=np.float32)
    ours = embedder.session.embed(embedder.tokens.encode(texts))
    cosines = (ours * reference).sum(axis=1) / np.linalg.norm(reference, axis=1)
    assert cosines.min() >= 0.9999


awkward = st.lists(
    st.sampled_from(["word ", "Supercalifragilistic", "日本語", "🙂", "\n\n", "x" * 300, "9" * 50, " ", "ü̈", "a. "]),
    max_size=300,
).map("".join)


@settings(max_examples=60)
@given(awkward | st.text(max_size=2000), st.sampled_from([100, 1000, 5000]))
def test_no_token_is_ever_truncated(embedder: OnnxEmbedder, text: str, max_chars: int) -> None:
    chunks = split_text(text, rules(embedder, max_chars), embedder.tokens.encode)
    covered = [False] * len(text)
    for chunk in chunks:
        assert chunk.start is not None
        assert chunk.end is not None
        assert text[chunk.start : chunk.end] == chunk.text
        (ids,) = embedder.tokens.encode([chunk.text])
        assert np.array_equal(ids, np.asarray(chunk.ids))
        assert len(ids) <= embedder.manifest.max_tokens
        covered[chunk.start : chunk.end] = [True] * len(chunk.text)
    assert all(done or character.isspace() for done, character in zip(covered, text, strict=True))


def test_a_text_over_the_limit_is_an_error_and_not_cut(embedder: OnnxEmbedder) -> None:
    with pytest.raises(ValueError, match="302 tokens, the model takes 256"):
        embedder.session.embed(embedder.tokens.encode(["word " * 300]))


def test_order_and_batch_shape_do_not_change_vectors(embedder: OnnxEmbedder) -> None:
    tokens = embedder.tokens.encode(real_texts(embedder, 24))
    one_by_one = np.vstack([embedder.session.embed([ids]) for ids in tokens])
    batched = embedder.session.embed(tokens, 2048)
    assert (one_by_one * batched).sum(axis=1).min() > 0.99999


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_bound_runs_give_the_same_vectors(
    embedder: OnnxEmbedder, model_folder: Path, pooling: Literal["mean", "cls"]
) -> None:
    """What a GPU runs, here on the processor: buffers kept by shape, pooling as a graph, texts that fill up a run."""
    manifest = replace(read_manifest(model_folder), pooling=pooling)
    setup = Setup(provider="cpu", precision="fp32", lanes=2, threads=1)
    plain, bound = (Session(model_folder, manifest, setup) for _ in range(2))
    bound._bound, bound._rows = bind(bound._session, manifest, "cpu"), ROWS["cuda"]
    bound.widths = Widths(bounds=bounds_up_to(manifest.max_tokens, WIDTHS["cuda"]), exact=False)
    ids = max(embedder.tokens.encode(real_texts(embedder, 8)), key=len)
    tokens = [ids[:count] for count in (5, 12, 30, 60)]  # of several widths; runs are full, and long ones take long
    with ThreadPoolExecutor(2) as lanes:
        runs = [tokens[start : start + size] for size in (1, 3, 4) for start in range(0, 4, size)] * 2
        for run, vectors in zip(runs, lanes.map(bound.run, runs), strict=True):
            assert vectors.shape == (len(run), manifest.dims)
            assert np.abs(vectors - plain.run(run)).max() < 1e-5


def test_buffers_of_the_shapes_used_last_are_kept(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound_module, "KEPT", 2)
    manifest = read_manifest(model_folder)
    session = Session(model_folder, manifest, Setup(provider="cpu", precision="fp32", lanes=1, threads=1))
    bound = session._bound = bind(session._session, manifest, "cpu")
    assert bound is not None
    for size in (1, 2, 1, 3):
        session.run([[5] * 4] * size)
    assert list(bound._thread.kept) == [(1, 4), (3, 4)]


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=5), st.integers(0, 3))
def test_padding(batch: list[list[int]], more: int) -> None:
    shape = len(batch) + more, max(map(len, batch)) + more
    feeds = padded(batch, shape)
    for row, text in enumerate(batch):
        assert feeds["input_ids"][row].tolist() == text + [0] * (shape[1] - len(text))
        assert feeds["attention_mask"][row].sum() == len(text)
    assert feeds["attention_mask"].sum() == sum(map(len, batch))
    assert {array.shape for array in feeds.values()} == {shape}


@pytest.fixture
def copied(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model to damage."""
    return Path(shutil.copytree(model_folder, tmp_path / model_folder.name))


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "golden.json"])
def test_truncated_changed_or_missing_file_is_refused(copied: Path, name: str) -> None:
    """Fault 25."""
    path = copied / name
    original = path.read_bytes()
    path.write_bytes(original[:-100])
    with pytest.raises(RefusedError, match=f"{name} is not the file that was exported"):
        load_embedder(copied)
    flipped = bytearray(original)
    flipped[len(flipped) // 2] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(RefusedError, match="truncated or changed"):
        load_embedder(copied)
    path.unlink()
    with pytest.raises(RefusedError, match="is missing"):
        load_embedder(copied)


def test_other_vectors_than_at_export_are_refused(copied: Path) -> None:
    golden = copied / "golden.json"
    content = json.loads(golden.read_text())
    content["vectors"] = content["vectors"][::-1]
    golden.write_text(json.dumps(content))
    manifest = json.loads((copied / "manifest.json").read_text())
    from models.manifest import sha256_file

    manifest["files"]["golden.json"] = sha256_file(golden)
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RefusedError, match="gives other vectors than at its export"):
        load_embedder(copied)


def test_missing_and_damaged_manifests(tmp_path: Path) -> None:
    with pytest.raises(PenstockError, match="penstock model export SOURCE --name nothing"):
        read_manifest(tmp_path / "nothing")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(RefusedError, match="cannot be read"):
        read_manifest(tmp_path)


def test_a_hub_folder_with_a_graph_needs_no_torch(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.onnx.choose.available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr("models.onnx.choose.usable_cores", lambda: 1)  # one setup, which is not timed against others
    monkeypatch.setattr("models.onnx.choose.reference_of", lambda *_: None)  # nor proved here: tests of the proof do it
    monkeypatch.setattr("models.onnx.choose._prove", lambda *_: Proof())
    source = tmp_path / "source"
    shutil.copytree(bundled_model(), source, ignore=shutil.ignore_patterns("*.safetensors"))
    (source / "onnx").mkdir()
    shutil.copy(model_folder / "model.onnx", source / "onnx" / "model.onnx")
    said: list[str] = []
    exported = exporter.export_model(
        str(source), name="prebuilt", models=tmp_path / "models", cache=tmp_path / "cache", say=said.append
    )
    exported.close()
    assert any("no export needed" in line for line in said)
    assert not (tmp_path / "cache").exists()
    assert (exported.manifest.dims, exported.manifest.max_tokens, exported.manifest.pooling) == (384, 256, "mean")


def test_export_of_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a folder"):
        exporter.export_model("./nowhere", name="x", models=tmp_path, cache=tmp_path, say=print)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="has no config.json"):
        exporter.export_model(str(tmp_path / "empty"), name="x", models=tmp_path / "m", cache=tmp_path, say=print)
    assert list((tmp_path / "m").iterdir()) == []


def test_too_little_disk_is_said_before_anything_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(PenstockError, match=r"not enough disk for the export environment .*: 7.0 GiB needed"):
        exporter.environment(tmp_path, print)


def test_a_step_of_minutes_says_that_it_goes_on_and_why_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\n[ $1 = venv ] || { sleep 0.5; echo no route to the index >&2; exit 2; }\n")
    uv.chmod(0o755)
    monkeypatch.setattr(exporter, "find_uv", lambda: str(uv))
    monkeypatch.setattr(exporter, "require_space", lambda *_: None)
    monkeypatch.setattr(exporter, "TELL_S", 0.1)
    told = list[str]()
    with pytest.raises(PenstockError, match="(?s)exit code 2; check the network.*no route to the index"):
        exporter.make_environment(tmp_path, "export", b"", told.append)
    assert "making the export environment" in told[-1]
    assert told[-1].endswith("s so far")
    assert not list(tmp_path.glob("export-*/.complete"))


def test_export_lock_is_the_lock_files(tmp_path: Path) -> None:
    """models/export/export-requirements.txt is made from uv.lock; this fails when one is newer than the other."""
    root = Path(__file__).parents[2]
    made = subprocess.run(
        [
            PENSTOCK.with_name("uv"),
            "export",
            "-q",
            "--locked",
            "--only-group",
            "export",
            "--no-emit-project",
            "--no-header",
            "--no-annotate",
        ],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert made == files("models.export").joinpath("export-requirements.txt").read_text()


def test_exactly_one_runtime() -> None:
    require_one_runtime(["onnxruntime"])
    with pytest.raises(ConfigError, match="no ONNX runtime is installed"):
        require_one_runtime([])
    with pytest.raises(ConfigError, match="onnxruntime and onnxruntime-gpu are installed together"):
        require_one_runtime(["onnxruntime", "onnxruntime-gpu"])


CPU, OPENVINO, CUDA = "CPUExecutionProvider", "OpenVINOExecutionProvider", "CUDAExecutionProvider"


def test_a_provider_asked_for_is_proved_or_an_error() -> None:
    require_provider("auto", [CPU])
    require_provider("cuda", [CUDA, CPU])
    with pytest.raises(PenstockError, match="offers only cpu"):
        require_provider("cuda", [CPU])
    prove_provider("cuda", [CUDA, CPU])
    with pytest.raises(PenstockError, match=f"asked for cuda, but the session runs on {CPU}"):
        prove_provider("cuda", [CPU])


def setups(*available: str, exported: str = "fp32", cores: int = 2, bf16: bool = True, **asked: Any) -> list[str]:
    asked = {"provider": "auto", "precision": "auto", **asked}
    return [str(s) for s in candidates(available, exported=exported, cores=cores, bf16=bf16, **asked)]


def test_candidates_are_what_the_machine_and_the_settings_allow() -> None:
    assert setups(CPU) == ["cpu fp32, 2 lanes of 1 thread", "cpu fp32, 1 lane of 2 threads"]
    assert setups(CPU, cores=1) == ["cpu fp32, 1 lane of 1 thread"]
    assert setups(CUDA, CPU, provider="cuda", exported="fp16") == [
        "cuda fp16, 2 lanes of 1 thread",
        "cuda fp16, 1 lane of 1 thread",
    ]
    both = setups(OPENVINO, CPU, cores=1)
    assert both == [f"{kind}, 1 lane of 1 thread" for kind in ("openvino bf16", "openvino fp32", "cpu fp32")]
    assert setups(OPENVINO, CPU, cores=1, bf16=False) == both[1:]
    assert setups(OPENVINO, CPU, cores=1, precision="fp32") == both[1:]
    assert setups(OPENVINO, CPU, cores=1, precision="bf16") == both[:1]
    with pytest.raises(ConfigError, match="model.precision = bf16, but this model computes only in fp32 here"):
        setups(CPU, precision="bf16")

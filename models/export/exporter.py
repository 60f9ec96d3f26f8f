"""Export a sentence-transformers model to ONNX, in an environment of its own.

1. find the source: a local folder, or a hub id (fetched with huggingface_hub)
2. the graph: the source's own `onnx/model.onnx` where it has one; else torch and optimum, in an environment
   made for the purpose once and kept in the cache
3. the golden vectors: by sentence-transformers itself where torch ran, else by the session
4. fp16 or int8: the graph converted in that environment, and its vectors of real texts compared with fp32's
5. the manifest, last; then the model is loaded as a worker loads it, which measures what is fastest on this machine. A
   failure leaves nothing behind.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models.cosines import cosines
from models.golden import GOLDEN_TEXTS
from models.manifest import (
    FORMAT,
    GOLDEN,
    MANIFEST,
    ONNX,
    REFERENCE,
    TOKENIZER,
    Manifest,
    Pooling,
    graph_files,
    read_manifest,
    sha256_file,
    write_manifest,
)
from models.onnx.embedder import OnnxEmbedder, load_embedder
from models.onnx.reference import Reference, singly, texts_of_all_widths, write_reference
from models.onnx.runtime import PROVIDERS, Setup, usable_cores
from models.onnx.session import Session, available_providers
from models.tokens import Tokens
from streams.errors import ConfigError, PenstockError, RefusedError
from streams.plan import Vectors
from streams.runs import plan_runs
from streams.split import TokenIds

ENVIRONMENT_BYTES = 7 * 1024**3  # measured: 5.8 GiB installed, most of it torch's CUDA libraries
CALIBRATION_TEXTS = 300
NEIGHBOURS = 10
TELL_S = 20.0
"""That a step goes on is told so often."""
PrecisionName = Literal["fp32", "fp16", "int8"]
Say = Callable[[str], None]


def ensure_model(
    source: str,
    *,
    name: str,
    models: Path,
    cache: Path,
    say: Say,
    precision: PrecisionName = "fp32",
    texts: Sequence[str] = (),
) -> None:
    """Export the model unless this version of Penstock has done so before."""
    try:
        read_manifest(models / name)
    except (PenstockError, RefusedError):
        options: dict[str, Any] = {"models": models, "cache": cache, "say": say, "precision": precision}
        export_model(source, name=name, texts=texts, **options).close()


def export_model(
    source: str,
    *,
    name: str,
    models: Path,
    cache: Path,
    say: Say,
    precision: PrecisionName = "fp32",
    texts: Sequence[str] = (),
) -> OnnxEmbedder:
    """Export `source` as `models/name` and return it loaded. Blocks for minutes the first time.

    `cache` keeps the export environment. `texts`: real ones, some 600, of which fp16 and int8 are calibrated with one
    half and compared with fp32 on the other. Raises ConfigError for a source that is no model, PenstockError when
    a step fails; the message says which.
    """
    folder = _fetch(source, say)
    target = models / name
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=models, ignore_cleanup_errors=True) as scratch:
        made = Path(scratch)
        manifest = _describe(folder, name=name, source=source)
        if (folder / TOKENIZER).is_file():
            shutil.copy(folder / TOKENIZER, made / TOKENIZER)
        if (folder / "onnx" / ONNX).is_file():
            reference = _copy_graph(folder / "onnx", made, say)
        else:
            reference = _export_graph(folder, made, environment(cache, say), say)
        manifest = _finish(made, manifest, reference)
        if precision != "fp32":
            manifest = _convert(made, manifest, precision, environment(cache, say), texts, say)
        say("loading the exported model as a worker does")
        load_embedder(made, say=say).close()
        if target.exists():
            shutil.rmtree(target)
        made.chmod(0o755)
        made.rename(target)
    return load_embedder(target)


def _fetch(source: str, say: Say) -> Path:
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or source.startswith((".", "~")):
        raise ConfigError(f"{source} is not a folder: give a model's folder, or a hub id such as owner/name")
    say(f"fetching {source} from the hub")
    from huggingface_hub import snapshot_download  # with tokenizers; imported late, it is slow

    patterns = ["*.json", "*.txt", "*.safetensors", "1_Pooling/*", "onnx/model.onnx", "onnx/model.onnx_data"]
    try:
        return Path(snapshot_download(source, allow_patterns=patterns))
    except Exception as exc:
        raise PenstockError(
            f"{source} is neither a local folder nor could it be fetched from the hub "
            f"({str(exc).splitlines()[0]}): check the name and the way to the hub (HTTPS_PROXY; HF_ENDPOINT names a "
            "mirror), or copy the model's folder here and give its path"
        ) from exc


def _describe(folder: Path, *, name: str, source: str) -> Manifest:
    """What sentence-transformers' own files say of the model."""
    config = _json(folder / "config.json")
    if config is None:
        raise ConfigError(f"{folder} has no config.json: it is not a transformers model")
    pooling = _json(folder / "1_Pooling" / "config.json") or {}
    if pooling.get("pooling_mode_cls_token"):
        mode: Pooling = "cls"
    elif pooling.get("pooling_mode_mean_tokens", True):
        mode = "mean"
    else:
        raise ConfigError(f"{folder}/1_Pooling/config.json asks for a pooling other than mean or cls")
    modules = _json(folder / "modules.json") or []
    limits = (
        (_json(folder / "sentence_bert_config.json") or {}).get("max_seq_length"),
        config.get("max_position_embeddings"),
    )
    prompts = (_json(folder / "config_sentence_transformers.json") or {}).get("prompts", {})
    return Manifest(
        format=FORMAT,
        name=name,
        source=source if not Path(source).is_dir() else Path(source).resolve().name,
        precision="fp32",
        dims=config["hidden_size"],
        max_tokens=min(limit for limit in limits if limit),
        pooling=mode,
        normalize=any(module["type"].endswith("Normalize") for module in modules),
        document_prefix=prompts.get("document") or prompts.get("passage") or "",
        query_prefix=prompts.get("query") or "",
        files={},
        shares={},
        quality={},
        exported_at=datetime.now(UTC).isoformat(timespec="seconds"),
        exporter={},
    )


def _copy_graph(onnx: Path, made: Path, say: Say) -> dict[str, Any] | None:
    say("the source carries an ONNX graph: no export needed")
    for file in onnx.glob("model.onnx*"):
        shutil.copy(file, made / file.name)
    return None


def _export_graph(folder: Path, made: Path, python: Path, say: Say) -> dict[str, Any]:
    say("exporting the graph (optimum) and the reference vectors (sentence-transformers)")
    texts = made / "texts.json"
    texts.write_text(json.dumps(GOLDEN_TEXTS))
    script = str(files("models.export").joinpath("export_script.py"))
    _run(f"the export of {folder}", [python, script, folder, made, texts], say)
    reference: dict[str, Any] = json.loads((made / "reference.json").read_text())
    (made / "reference.json").unlink()
    texts.unlink()
    return reference


def _run(step: str, command: list[str | Path], say: Say, hint: str = "") -> None:
    """To its end, which may take minutes. `CI` keeps an export's libraries from reporting what they are used for."""
    env, pipe, begun = {**os.environ, "CI": "true"}, subprocess.PIPE, time.monotonic()
    with subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True) as process:
        while True:
            try:
                out, err = process.communicate(timeout=TELL_S)
                break
            except subprocess.TimeoutExpired:
                say(f"{step}: {time.monotonic() - begun:.0f} s so far")
            except BaseException:
                process.kill()
                raise
    if process.returncode != 0:
        lines = "\n".join((err or out).splitlines()[-12:])
        raise PenstockError(f"{step} failed with exit code {process.returncode}{hint}:\n{lines}")


def _finish(made: Path, manifest: Manifest, reference: dict[str, Any] | None) -> Manifest:
    """Golden vectors and manifest of the fp32 graph."""
    if reference is None:
        reference = {"by": "onnxruntime", "exporter": {}, "vectors": _embed_golden(made, manifest).tolist()}
    _write_golden(made, reference["vectors"], reference["by"])
    hashes = _hashes(made)
    manifest = replace(manifest, files=hashes, shares=graph_files(hashes), exporter=reference["exporter"])
    write_manifest(made, manifest)
    return manifest


def _convert(
    made: Path, manifest: Manifest, precision: PrecisionName, python: Path, texts: Sequence[str], say: Say
) -> Manifest:
    """Replace the fp32 graph by one of another precision, with what that costs in quality."""
    if len(texts) < 2 * NEIGHBOURS:
        raise ConfigError(f"{precision} is measured against fp32 on real texts: {len(texts)} are too few")
    tokens = Tokens(made / TOKENIZER, prefix=manifest.document_prefix)
    ids = [row[: manifest.max_tokens] for row in tokens.encode(texts)]
    calibrating, measuring = ids[: len(ids) // 2][:CALIBRATION_TEXTS], ids[len(ids) // 2 :]
    kind: str = precision
    if precision == "int8":
        kind = "int8-calibrated" if "OpenVINOExecutionProvider" in available_providers() else "int8-dynamic"
    say(f"converting the graph: {kind}")
    fp32 = _session(made, manifest, "cpu")
    before = in_batches(fp32, measuring)
    proving = texts_of_all_widths(tokens, manifest, texts[len(ids) // 2 :])
    reference = Reference(texts=proving, vectors=singly(fp32, proving))
    ids_file, converted = made / "ids.json", made / "converted.onnx"
    ids_file.write_text(json.dumps([row.tolist() for row in calibrating]))
    script = str(files("models.export").joinpath("quantize_script.py"))
    _run(f"the conversion to {precision}", [python, script, made / ONNX, converted, kind, ids_file], say)
    for file in (ids_file, *made.glob(f"{ONNX}*")):
        file.unlink()
    converted.rename(made / ONNX)
    manifest = replace(manifest, precision=precision, exporter={**manifest.exporter, "converted": kind})
    quality = {
        provider: _quality(_session(made, manifest, provider), before, measuring)
        for provider, full_name in PROVIDERS.items()
        if full_name in available_providers()
    }
    for provider, figures in quality.items():
        say(f"{provider}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    write_reference(made / REFERENCE, reference)
    if precision == "int8":
        _write_golden(made, _embed_golden(made, manifest).tolist(), "onnxruntime")
    shares = manifest.shares if precision == "fp16" else {}
    manifest = replace(manifest, files=_hashes(made), shares=shares, quality=quality)
    write_manifest(made, manifest)
    return manifest


def compare_vectors(reference: Vectors, vectors: Vectors) -> dict[str, float]:
    """Cosines row by row, and how many of the 10 nearest neighbours within these texts stay the same, on average."""

    def unit(rows: Vectors) -> Vectors:
        scaled: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return scaled

    def nearest(rows: Vectors) -> list[set[int]]:
        similar = rows @ rows.T
        np.fill_diagonal(similar, -2)
        return [set(row) for row in np.argsort(-similar, axis=1, kind="stable")[:, :NEIGHBOURS].tolist()]

    left, right = unit(reference), unit(vectors)
    cosines = (left * right).sum(axis=1)
    pairs = zip(nearest(left), nearest(right), strict=True)
    return {
        "texts": float(len(left)),
        "cosine_min": float(cosines.min()),
        "cosine_mean": float(cosines.mean()),
        "overlap_top10": float(np.mean([len(one & other) / NEIGHBOURS for one, other in pairs])),
    }


def _quality(session: Session, reference: Vectors, texts: Sequence[TokenIds]) -> dict[str, float]:
    """In the batches of a worker, and one text a run: a provider may be right in one and off in the other."""
    alone = float(cosines(singly(session, texts), reference).min())
    return {**compare_vectors(reference, in_batches(session, texts)), "cosine_min_alone": alone}


def in_batches(session: Session, texts: Sequence[TokenIds], max_tokens: int = 1024) -> Vectors:
    """Vectors of texts sorted and padded as a worker does it, on all lanes."""
    vectors = np.empty((len(texts), session.dims), dtype=np.float32)
    batches = plan_runs([len(ids) for ids in texts], lambda _: max_tokens)
    with ThreadPoolExecutor(session.setup.lanes) as lanes:
        runs = lanes.map(lambda batch: session.run([texts[index] for index in batch]), batches)
        for batch, found in zip(batches, runs, strict=True):
            vectors[batch] = found
    return vectors


def _session(made: Path, manifest: Manifest, provider: str | None = None) -> Session:
    """For vectors, not for speed: on the provider that an int8 graph was made for, or on this one."""
    provider = provider or ("openvino" if "OpenVINOExecutionProvider" in available_providers() else "cpu")
    return Session(
        made, manifest, Setup(provider=provider, precision=manifest.precision, lanes=usable_cores(), threads=1)
    )


def _embed_golden(made: Path, manifest: Manifest) -> Vectors:
    ids: Sequence[TokenIds] = Tokens(made / TOKENIZER, prefix=manifest.document_prefix).encode(GOLDEN_TEXTS)
    return _session(made, manifest).embed(ids)


def _write_golden(made: Path, vectors: list[list[float]], by: str) -> None:
    (made / GOLDEN).write_text(json.dumps({"texts": GOLDEN_TEXTS, "vectors": vectors, "by": by}))


def _hashes(made: Path) -> dict[str, str]:
    return {file.name: sha256_file(file) for file in sorted(made.iterdir()) if file.name != MANIFEST}


def environment(cache: Path, say: Say) -> Path:
    """Python of the export environment, made on first use (about 3 GB of downloads)."""
    lock = files("models.export").joinpath("export-requirements.txt").read_bytes()
    return make_environment(cache, "export", lock, say)


def make_environment(cache: Path, purpose: str, lock: bytes, say: Say) -> Path:
    """Python of an environment with torch in it, made on first use, keyed by its lock."""
    key = hashlib.sha256(lock + sys.version.encode()).hexdigest()[:12]
    home = cache / f"{purpose}-{key}"
    python = home / "bin" / "python"
    if (home / ".complete").exists():
        return python
    require_space(cache, ENVIRONMENT_BYTES, f"the {purpose} environment (torch and optimum)")
    uv = find_uv()
    say(f"making the {purpose} environment: torch, about 3 GB, once")
    shutil.rmtree(home, ignore_errors=True)
    with tempfile.NamedTemporaryFile(suffix=".txt") as requirements:
        requirements.write(lock)
        requirements.flush()
        commands: tuple[list[str | Path], ...] = (
            [uv, "venv", "--quiet", "--python", sys.executable, home],
            [uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", requirements.name],
        )
        for command in commands:
            hint = "; check the network and the disk, then run it again"
            _run(f"making the {purpose} environment in {home}", command, say, hint)
    (home / ".complete").touch()
    return python


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Raises PenstockError when the disk of `folder` has less than `needed` bytes free."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise PenstockError(
            f"not enough disk for {purpose}: {needed / 1024**3:.1f} GiB needed in {folder}, {free / 1024**3:.1f} "
            "GiB free; make room, or point PENSTOCK_CACHE_DIR elsewhere"
        )


def find_uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise PenstockError("the export environment is made with uv, which was not found: `pip install uv`")
    return found


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None

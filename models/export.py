"""Export a sentence-transformers model to ONNX, in an environment of its own.

1. find the source: a local folder, or a hub id (fetched with huggingface_hub)
2. the graph: the source's own `onnx/model.onnx` where it has one; else torch and optimum, in an environment
   made for the purpose once and kept in the cache
3. the golden vectors: by sentence-transformers itself where torch ran, else by the session
4. the manifest, last; then the model is loaded as a worker loads it. A failure leaves nothing behind.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from models.embedder import Embedder, load_embedder
from models.golden import GOLDEN_TEXTS
from models.manifest import (
    FORMAT,
    GOLDEN,
    MANIFEST,
    ONNX,
    TOKENIZER,
    Manifest,
    Pooling,
    sha256_file,
    write_manifest,
)
from models.session import Session
from models.tokens import Tokens
from streams.errors import ConfigError, PenstockError

ENVIRONMENT_BYTES = 7 * 1024**3  # measured: 5.6 GiB installed, most of it torch's CUDA libraries
Say = Callable[[str], None]


def export_model(source: str, *, name: str, models: Path, cache: Path, say: Say) -> Embedder:
    """Export `source` as `models/name` and return it loaded. Blocks for minutes the first time.

    `cache` keeps the export environment. Raises ConfigError for a source that is no model, PenstockError when
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
        _finish(made, manifest, reference)
        say("loading the exported model as a worker does")
        load_embedder(made, provider="cpu").close()
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
            f"({str(exc).splitlines()[0]}): check the name, or copy the model's folder here and give its path"
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
    script = str(files("models").joinpath("export_script.py"))
    done = subprocess.run([python, script, folder, made, texts], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = "\n".join((done.stderr or done.stdout).splitlines()[-12:])
        raise PenstockError(f"the export of {folder} failed with exit code {done.returncode}:\n{lines}")
    reference: dict[str, Any] = json.loads((made / "reference.json").read_text())
    (made / "reference.json").unlink()
    texts.unlink()
    return reference


def _finish(made: Path, manifest: Manifest, reference: dict[str, Any] | None) -> None:
    if reference is None:
        session = Session(made, manifest, provider="cpu", threads=None)
        ids = Tokens(made / TOKENIZER, prefix=manifest.document_prefix).encode(GOLDEN_TEXTS)
        reference = {"by": "onnxruntime", "exporter": {}, "vectors": session.embed(ids, 1024).tolist()}
    golden = {"texts": GOLDEN_TEXTS, "vectors": reference["vectors"], "by": reference["by"]}
    (made / GOLDEN).write_text(json.dumps(golden))
    hashes = {file.name: sha256_file(file) for file in sorted(made.iterdir()) if file.name != MANIFEST}
    write_manifest(made, replace(manifest, files=hashes, exporter=reference["exporter"]))


def environment(cache: Path, say: Say) -> Path:
    """Python of the export environment, made on first use (about 3 GB of downloads), keyed by its lock."""
    lock = files("models").joinpath("export-requirements.txt").read_bytes()
    key = hashlib.sha256(lock + sys.version.encode()).hexdigest()[:12]
    home = cache / f"export-{key}"
    python = home / "bin" / "python"
    if (home / ".complete").exists():
        return python
    require_space(cache, ENVIRONMENT_BYTES, "the export environment (torch and optimum)")
    uv = _find_uv()
    say("making the export environment: torch and optimum, about 3 GB, once")
    shutil.rmtree(home, ignore_errors=True)
    with tempfile.NamedTemporaryFile(suffix=".txt") as requirements:
        requirements.write(lock)
        requirements.flush()
        commands: tuple[list[str | Path], ...] = (
            [uv, "venv", "--quiet", "--python", sys.executable, home],
            [uv, "pip", "install", "--python", python, "--require-hashes", "-r", requirements.name],
        )
        for command in commands:
            if subprocess.run(command, check=False).returncode != 0:
                raise PenstockError(
                    f"the export environment could not be made in {home}: the lines above say why; "
                    "check the network and the disk, then run the command again"
                )
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


def _find_uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise PenstockError("the export environment is made with uv, which was not found: `pip install uv`")
    return found


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None

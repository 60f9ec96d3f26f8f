"""A second real model: a static vector of 256 numbers for each word piece, and of a text their mean.

    input_ids ─► Gather ─┐
                         ├─► the sum of those inside the text ─► by their number ─► of length 1
    attention_mask ──────┘

Other dims, another tokenizer and another quality than all-MiniLM-L6-v2, and hundreds of times as fast.
"""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from models.golden import GOLDEN_TEXTS
from models.manifest import (
    FORMAT,
    GOLDEN,
    MANIFEST,
    ONNX,
    TOKENIZER,
    Manifest,
    graph_files,
    sha256_file,
    write_manifest,
)
from models.onnx.embedder import load_embedder
from tests.kit.environments import python_with
from tests.kit.shared import alone

NAME = "wordllama"
REQUIREMENTS = ("wordllama==0.4.0.post1", "onnx>=1.17,<2")
DIMS, MAX_TOKENS = 256, 512
SCRIPT = Path(__file__).with_name("wordllama_script.py")


def wordllama(models: Path) -> Path:
    """Its folder in `models`, made on first use: some 30 MB of downloads, then about ten seconds.

    Raises CalledProcessError where the packages cannot be had.
    """
    folder = models / NAME
    with alone(NAME):
        if not (folder / MANIFEST).exists():
            _make(folder)
    return folder


def _make(folder: Path) -> None:
    python = python_with("wordllama-onnx", *REQUIREMENTS)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=folder.parent, ignore_cleanup_errors=True) as scratch:
        made = Path(scratch) / NAME
        made.mkdir()
        texts = Path(scratch) / "texts.json"
        texts.write_text(json.dumps(GOLDEN_TEXTS))
        subprocess.run([python, "-I", SCRIPT, made, texts], check=True)
        names = (ONNX, TOKENIZER, GOLDEN)
        files = {name: sha256_file(made / name) for name in names}
        write_manifest(
            made,
            Manifest(
                format=FORMAT,
                name=NAME,
                source=REQUIREMENTS[0],
                precision="fp32",
                dims=DIMS,
                max_tokens=MAX_TOKENS,
                pooling="mean",
                normalize=True,
                document_prefix="",
                query_prefix="",
                files=files,
                shares=graph_files(files),
                quality={},
                exported_at="2026-01-01T00:00:00+00:00",
                exporter={},
            ),
        )
        load_embedder(made).close()  # as a worker does: proved in every width, and against the package's own vectors
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)

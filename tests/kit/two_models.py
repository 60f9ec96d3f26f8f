"""Two models in one world: an index of each."""

import json
import shutil
import subprocess
from dataclasses import replace as with_changes
from pathlib import Path
from typing import Any

from models.manifest import GOLDEN, ONNX, read_manifest, sha256_file, write_manifest
from models.onnx.choose import Constraints, choose
from models.onnx.embedder import load_embedder
from models.onnx.session import Session
from models.tokens import Tokens
from tests.kit.harness import World

SECOND = "second"
SURE = "The capital of France is Paris, a city on the Seine."
"""Of `doc-0`, which never changes: asked for by its own text it is the first hit of any model."""


def second_model(original: Path, folder: Path) -> None:
    """The same weights with another pooling, exported as `model export` does."""
    shutil.copytree(original, folder, ignore=shutil.ignore_patterns(f"{ONNX}*"))
    for graph in original.glob(f"{ONNX}*"):
        (folder / graph.name).symlink_to(graph)
    before = read_manifest(folder)
    manifest = with_changes(before, name=SECOND, pooling="cls", files={**before.files}, quality={})
    setup = choose(original, before, Constraints()).setup
    golden = json.loads((folder / GOLDEN).read_text())
    ids = Tokens(folder / "tokenizer.json").encode(golden["texts"])
    golden["vectors"] = Session(folder, manifest, setup).embed(ids).tolist()
    (folder / GOLDEN).write_text(json.dumps(golden))
    manifest.files[GOLDEN] = sha256_file(folder / GOLDEN)
    write_manifest(folder, manifest)
    load_embedder(folder).close()


def of_group(world: World, group: str, model: str | None = None) -> dict[str, str]:
    """Environment of another group's workers and commands."""
    found = {"PENSTOCK_SOURCE__GROUP": group}
    return found | ({"PENSTOCK_MODEL__NAME": model} if model else {})


def rows(done: "subprocess.CompletedProcess[str]", code: int = 0) -> Any:
    """What a command printed with --json."""
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout)

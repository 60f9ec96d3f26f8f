"""What every process under test would compute alike, computed once a run: hashes of model files, and the probe.

Half of what a command costs. By what it depends on: a file or a rule that a test changes is looked at anew. That
either is looked at is tested where it is (`tests/models`, `tests/streams`).
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agents import configured
from models import manifest
from streams.probe import probe as _probe
from streams.split import Encode, SplitRules

T = TypeVar("T")
_sha256_file = manifest.sha256_file


def install(folder: Path) -> None:
    """In this process. `folder`: of the run."""

    def sha256_file(path: Path) -> str:
        found = path.stat()
        return _once(folder, [str(path.resolve()), found.st_ino, found.st_size, found.st_mtime_ns], _sha256_file, path)

    def probe(rules: SplitRules, encode: Encode) -> dict[str, str]:
        tokens = encode.__self__  # type: ignore[attr-defined]  # a method of Tokens
        return _once(folder, [repr(rules), tokens._prefix, tokens._tokenizer.to_str()], _probe, rules, encode)

    manifest.sha256_file = sha256_file
    vars(configured)["probe"] = probe


def _once(folder: Path, depends_on: list[object], make: Callable[..., T], *arguments: object) -> T:
    key = hashlib.sha256(json.dumps([__file__, make.__name__, *depends_on]).encode()).hexdigest()
    path = folder / f"memo-{key[:32]}.json"
    try:
        kept: T = json.loads(path.read_text())
    except FileNotFoundError:
        kept = make(*arguments)
        made = path.with_suffix(f".{os.getpid()}")
        made.write_text(json.dumps(kept))
        made.replace(path)
    return kept

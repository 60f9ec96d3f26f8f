"""What every process under test would compute alike, computed once a run: hashes of model files, the probe, tokenizers.

Half of what a command costs. By what it depends on: a file or a rule that a test changes is looked at anew. That
either is looked at is tested where it is (`tests/models`, `tests/streams`).
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tokenizers import Tokenizer

from agents import configured
from agents.settings.environment import cache_dir
from models import manifest
from models import tokens as tokens_module
from streams.probe import probe as _probe
from streams.probe import probe_quality as _probe_quality
from streams.split import Encode, SplitRules

T = TypeVar("T")
_sha256_file = manifest.sha256_file
_tokenizers: dict[str, Tokenizer] = {}


class KeptTokenizer:
    """Stands for `Tokenizer` where files are read: a process, and what is forked from it, read each of them once."""

    @staticmethod
    def from_file(path: str) -> Tokenizer:
        """Raises as the real one."""
        key = _key_of(Path(path))
        if key not in _tokenizers:
            _tokenizers[key] = Tokenizer.from_file(path)
        return _tokenizers[key]


def preload() -> None:
    """In the process that others are forked from: the tokenizers of the models that are there."""
    for path in sorted((cache_dir() / "models").glob(f"*/{manifest.TOKENIZER}")):
        KeptTokenizer.from_file(str(path))


def install(folder: Path, put: Callable[[Any, str, Any], None] = setattr) -> None:
    """In this process. `folder`: of the run. `put`: such as one that can be undone."""

    def sha256_file(path: Path) -> str:
        return _once(folder, [_key_of(path)], _sha256_file, path)

    def probe(rules: SplitRules, encode: Encode) -> dict[str, str]:
        tokens = encode.__self__  # type: ignore[attr-defined]  # a method of Tokens, or of ByteBound
        file = getattr(tokens, "_tokenizer", None)
        key = next((key for key, kept in _tokenizers.items() if kept is file), "bytes")
        return _once(folder, [repr(rules), tokens._prefix, key], _probe, rules, encode)

    def probe_quality() -> dict[str, str]:
        return _once(folder, [], _probe_quality)

    put(manifest, "sha256_file", sha256_file)
    put(configured, "probe", probe)
    put(configured, "probe_quality", probe_quality)
    put(tokens_module, "Tokenizer", KeptTokenizer)


def _key_of(path: Path) -> str:
    found = path.stat()
    return repr([str(path.resolve()), found.st_ino, found.st_size, found.st_mtime_ns])


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

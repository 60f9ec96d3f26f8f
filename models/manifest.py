"""What belongs to a model, with the proof that none of it changed.

A model is a folder with a `manifest.json`, which names the sha256 of every other file in it. Of an exported one these
are `model.onnx` (and external data), `tokenizer.json`, `golden.json`, and `reference.npz` where the graph is not fp32;
of one behind a service `golden.json`, and `tokenizer.json` where that was at hand.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from streams.errors import ConfigError, PenstockError, RefusedError

MANIFEST = "manifest.json"
ONNX = "model.onnx"
TOKENIZER = "tokenizer.json"
GOLDEN = "golden.json"
REFERENCE = "reference.npz"
FORMAT = 2
SERVICE, SERVICE_FORMAT = "service", 1

Pooling = Literal["mean", "cls"]
Encoding = Literal["base64", "float"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`max_tokens` counts special tokens; prefixes are put before a text as they stand; `files`: name → sha256.

    `shares`: graph files of the fp32 model whose index these vectors may share, name → sha256; of an fp32 model its
    own. `quality`: against that model's vectors on real texts, by provider of the machine that exported it: `texts`,
    `cosine_min`, `cosine_mean` and `overlap_top10` in a worker's batches, `cosine_min_alone` one text a run; empty for
    fp32, which the golden texts compare with the original.
    """

    format: int
    name: str
    source: str
    precision: str
    dims: int
    max_tokens: int
    pooling: Pooling
    normalize: bool
    document_prefix: str
    query_prefix: str
    files: dict[str, str]
    shares: dict[str, str]
    quality: dict[str, dict[str, float]]
    exported_at: str
    exporter: dict[str, str]

    def contract(self) -> dict[str, Any]:
        """The part that an index depends on: other values give other vectors.

        fp32, fp16 and bf16 vectors of one model may share an index: they are one precision here, and name the files
        of the fp32 graph.
        """
        graph = self.shares or graph_files(self.files)
        return {
            "name": self.name,
            "onnx_sha256": graph[ONNX],
            "data_sha256": {name: sha256 for name, sha256 in sorted(graph.items()) if name != ONNX},
            "tokenizer_sha256": self.files[TOKENIZER],
            "precision": "float" if self.shares else self.precision,
            "dims": self.dims,
            "max_tokens": self.max_tokens,
            "pooling": self.pooling,
            "normalize": self.normalize,
            "document_prefix": self.document_prefix,
            "query_prefix": self.query_prefix,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceManifest:
    """A model behind an HTTP service. It has no key: that is the settings'.

    `url`: where texts are posted to; `model`: what the service calls it; `asks_dims`: whether it has to be asked for
    `dims`, being able to give others; `encoding`: of its vectors; `key_header`: by which the key is sent. `max_tokens`
    counts special tokens; prefixes are put before a text as they stand; `files`: name → sha256. `control`: the first
    golden text's vector, in short: `streams.control`.
    """

    format: int
    kind: str
    name: str
    url: str
    model: str
    dims: int
    asks_dims: bool
    encoding: Encoding
    key_header: str
    max_tokens: int
    document_prefix: str
    query_prefix: str
    control: str
    files: dict[str, str]
    added_at: str

    @property
    def precision(self) -> str:
        """Whatever the service computes in."""
        return SERVICE

    def contract(self) -> dict[str, Any]:
        """The part that an index depends on. What a service is called, and where it is, may change; its vectors not."""
        return {
            "name": self.name,
            "control": self.control,
            "tokenizer_sha256": self.files.get(TOKENIZER, "bytes"),
            "precision": self.precision,
            "dims": self.dims,
            "max_tokens": self.max_tokens,
            "normalize": True,
            "document_prefix": self.document_prefix,
            "query_prefix": self.query_prefix,
        }


AnyManifest = Manifest | ServiceManifest


def graph_files(files: dict[str, str]) -> dict[str, str]:
    """Those of a model's files that hold the graph and its weights."""
    return {name: sha256 for name, sha256 in files.items() if name not in (TOKENIZER, GOLDEN, REFERENCE)}


def write_manifest(folder: Path, manifest: AnyManifest) -> None:
    """Write it last: a folder without it is not a model."""
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Of an exported model. Raises as `manifest_of`, and ConfigError when the model is a service's."""
    found = manifest_of(folder)
    if isinstance(found, ServiceManifest):
        raise ConfigError(f"{folder.name} is a service's model, and an exported one is needed: choose another")
    return found


def manifest_of(folder: Path) -> AnyManifest:
    """Raises PenstockError when there is no such model, RefusedError when the manifest is damaged."""
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        raise PenstockError(
            f"there is no model in {folder}: export one with `penstock model export SOURCE --name {folder.name}`, or "
            "name a service's with `penstock model add`"
        ) from None
    except (OSError, ValueError) as exc:
        raise RefusedError(f"{path} cannot be read ({exc}): export the model again") from exc
    return _service(path, raw) if isinstance(raw, dict) and raw.get("kind") == SERVICE else _exported(path, raw)


def _service(path: Path, raw: dict[str, Any]) -> ServiceManifest:
    way = f"add it again with `penstock model add {path.parent.name}`"
    try:
        manifest = ServiceManifest(**{field.name: raw[field.name] for field in fields(ServiceManifest)})
    except KeyError as exc:
        raise RefusedError(f"{path} lacks {exc}: {way}") from exc
    if manifest.format != SERVICE_FORMAT:
        raise RefusedError(f"{path} has format {manifest.format}, this Penstock reads {SERVICE_FORMAT}: {way}")
    return manifest


def _exported(path: Path, raw: Any) -> Manifest:
    folder = path.parent
    try:
        manifest = Manifest(**{field.name: raw[field.name] for field in fields(Manifest)})
    except (KeyError, TypeError) as exc:
        raise RefusedError(f"{path} lacks {exc}: export the model again with this version of Penstock") from exc
    if manifest.format != FORMAT:
        raise RefusedError(f"{path} has format {manifest.format}, this Penstock reads {FORMAT}: export it again")
    if manifest.precision != "fp32" and REFERENCE not in manifest.files:
        raise RefusedError(
            f"{folder} has no {REFERENCE}, the fp32 vectors that its runs in {manifest.precision} are proved against: "
            f"export it again with `penstock model export SOURCE --name {folder.name} --precision {manifest.precision}`"
        )
    return manifest


def verify_files(folder: Path, manifest: AnyManifest) -> None:
    """Compare every file with its sha256 (reads them all, ~1 s a GB). Raises RefusedError naming the file."""
    made, way = "exported", f"export the model {manifest.name} again"
    if isinstance(manifest, ServiceManifest):
        made, way = "added", f"add it again with `penstock model add {manifest.name}`"
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise RefusedError(f"{path} is missing: {way}")
        if (found := sha256_file(path)) != expected:
            raise RefusedError(
                f"{path} is not the file that was {made} (sha256 {found[:12]}…, manifest {expected[:12]}…, "
                f"{path.stat().st_size} bytes): truncated or changed; {way}"
            )


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""The servers' jars and archives: fetched once, by Maven coordinate, each compared with its locked sha256.

`artifacts.json` is the lock: coordinates, sha256 and sizes of everything that runs. `ops/lock_artifacts.py`
makes it anew for other versions.
"""

import json
import shutil
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from agents.progress import Report
from models.export.exporter import require_space
from models.manifest import sha256_file
from streams.errors import PenstockError


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One locked file. `coordinate`: group:artifact:version:packaging[:classifier]."""

    coordinate: str
    sha256: str
    bytes: int

    @property
    def file_name(self) -> str:
        """Name in the cache; unique, as the coordinate is."""
        _, artifact, version, packaging, *classifier = self.coordinate.split(":")
        return f"{'-'.join([artifact, version, *classifier])}.{packaging}"


def locked(server: str, version: str) -> list[Artifact]:
    """What `server` ("kafka" or "elasticsearch") consists of. Raises PenstockError for an unknown version."""
    lock = json.loads(files("agents.local").joinpath("artifacts.json").read_text())[server]
    if version not in lock:
        raise PenstockError(f"{server} {version} is not available here; choose one of {', '.join(lock)}")
    return [Artifact(**item) for item in lock[version]]


def fetch(artifacts: list[Artifact], cache: Path, report: Report) -> list[Path]:
    """Paths of all artifacts in `cache`, downloading what is missing, eight at a time. `report` is told bytes.

    Raises PenstockError when one cannot be had or is not what the lock says; nothing half done stays behind.
    """
    folder = cache / "artifacts"
    paths = [folder / artifact.file_name for artifact in artifacts]
    missing = [(a, p) for a, p in zip(artifacts, paths, strict=True) if not p.exists()]
    if not missing:
        return paths
    total = sum(artifact.bytes for artifact, _ in missing)
    require_space(folder, 2 * total + 256 * 1024**2, "the servers' files")
    done = 0
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as scratch,
        ThreadPoolExecutor(8) as pool,
    ):
        jobs = [pool.submit(_fetch_one, artifact, path, Path(scratch)) for artifact, path in missing]
        for (artifact, _), job in zip(missing, jobs, strict=True):
            job.result()
            done += artifact.bytes
            report(artifact.file_name, done, total)
    return paths


def _fetch_one(artifact: Artifact, path: Path, scratch: Path) -> None:
    from jgo.maven import MavenContext

    group, name, version, packaging, *classifier = artifact.coordinate.split(":")
    context = MavenContext(repo_cache=scratch, local_repos=[], timeout=60)
    component = context.project(group, name).at_version(version)
    try:
        found = component.artifact(classifier=classifier[0] if classifier else "", packaging=packaging).resolve()
    except Exception as exc:
        raise PenstockError(
            f"{artifact.coordinate} could not be downloaded from Maven Central ({exc}): "
            "check the network, then run the command again"
        ) from exc
    if sha256_file(found) != artifact.sha256:
        raise PenstockError(f"{artifact.coordinate} was downloaded, but is not the locked file (sha256 differs)")
    found.replace(path)


def unpack(archive: Path, cache: Path) -> Path:
    """Folder with the archive's contents, unpacked once. Safe when two processes do it at the same time."""
    home = cache / archive.stem
    if not home.exists():
        scratch = Path(tempfile.mkdtemp(dir=cache, prefix=f".{archive.stem}-"))
        try:
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(scratch)  # our own locked archive
            (inner,) = scratch.iterdir()
            for script in (inner / "bin").iterdir():
                script.chmod(0o755)
            inner.rename(home)
        except OSError:
            if not home.exists():
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return home

"""Real files of this machine, and of Debian's archive where that can be reached: as people made them, and damaged."""

import gzip
import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from agents.sources.convert.kinds import GZIP, kind_of
from agents.sources.reading import JSON

LARGEST_BYTES = 1_500_000
"""Of a file: what is converted here is indexed, too."""
HERE = (
    "/usr/share/doc",
    "/usr/share/distro-info",
    "/usr/share/javascript",
    "/usr/lib/python3",
    sys.prefix,
    sys.base_prefix,
)
PACKAGES = ("debian-policy", "developers-reference", "debian-history", "maint-guide")
"""Of documentation: PDF, EPUB, HTML, text, in many languages."""
SOURCES = ("pandoc", "python-odf", "unrtf", "pdf.js")
"""With documents to test by, of word processors of all kinds: EPUB, RTF, DOCX, PPTX, ODT, ODS, ODP, CSV, PDF."""
SUITE = """Types: deb deb-src
URIs: http://deb.debian.org/debian
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def of_kind(path: Path) -> str | None:
    """As `ingest` takes it; None for what it does not take, and for JSON lines, which are many documents."""
    name = path.name.lower().removesuffix(GZIP)
    return JSON if name.endswith(JSON) else kind_of(path.name)


def fetch(folder: Path) -> str:
    """Unpack documentation and test documents of Debian's archive there, once. Returns what it could not have."""
    unpacked, missed = folder / "unpacked", list[str]()
    if unpacked.exists():
        return ""
    (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (folder / "debian.sources").write_text(SUITE)
    apt = ["apt-get", "-qq", "-o", f"Dir::Etc::SourceList={folder}/debian.sources", "-o", "Dir::Etc::SourceParts=-"]
    apt += ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}", "-o", "APT::Sandbox::User=root"]
    sources = (["source", "--download-only", name] for name in SOURCES)
    for words in (["update"], ["download", *PACKAGES], *sources):
        try:
            subprocess.run([*apt, *words], cwd=folder, check=True, timeout=600, capture_output=True)
        except (OSError, subprocess.SubprocessError):  # no Debian, no network, or not there any more
            missed.append(words[-1])
    scratch = folder / "unpacking"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for path in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", path, scratch], check=True, timeout=600)
    for path in folder.glob("*.orig.tar.*"):
        subprocess.run(["tar", "-xf", path, "-C", scratch], check=True, timeout=600)
    if any(scratch.iterdir()):
        scratch.rename(unpacked)
    return f"Debian's archive did not give {', '.join(missed)}." if missed else ""


def collect(folders: list[Path], into: Path, most: int) -> dict[str, list[Path]]:
    """Copies of real files by kind, at most so many of each, none twice; which of them is the same in every run."""
    found: dict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        for path in _files(folder):
            if kind := of_kind(path):
                found[kind].append(path)
    taken: dict[str, list[Path]] = {}
    for kind, paths in sorted(found.items()):
        random.Random(kind).shuffle(paths)
        (into / kind[1:]).mkdir(parents=True)
        copies, seen = list[Path](), set[bytes]()
        for path in paths:
            if len(copies) == most:
                break
            raw = path.read_bytes()
            if raw and raw not in seen:
                seen.add(raw)
                copies.append(into / kind[1:] / f"{len(copies):03}-{path.name}")
                shutil.copy(path, copies[-1])
        taken[kind] = copies
    return taken


def chapters(books: list[Path], into: Path, most: int) -> list[Path]:
    """XHTML, which hardly anybody keeps outside of books."""
    (into / "xhtml").mkdir()
    found = list[Path]()
    for book in books:
        with zipfile.ZipFile(book) as archive:
            for name in archive.namelist():
                if name.endswith(".xhtml") and len(found) < most:
                    found.append(into / "xhtml" / f"{len(found):03}-{Path(name).name}")
                    found[-1].write_bytes(archive.read(name))
    return found


def damage(whole: dict[str, list[Path]], into: Path) -> tuple[set[Path], set[Path]]:
    """Files that are broken, and bombs: those that have to fail, and those that need not."""
    into.mkdir()
    fails, may = set[Path](), set[Path]()
    for kind, (path, *_) in whole.items():
        raw = path.read_bytes()
        empty, half = into / f"empty{kind}", into / f"half{kind}"
        empty.write_bytes(b"")
        half.write_bytes(raw[: len(raw) // 2])
        packed = raw.startswith(b"PK")
        (fails if packed or kind in (".pdf", ".rtf") else may).add(empty)
        (fails if packed else may).add(half)
    for suffix in (".docx", ".epub", ".xlsx", ".odt"):
        fails.add(into / f"bomb{suffix}")
        with (
            zipfile.ZipFile(into / f"bomb{suffix}", "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("a", "w") as part,
        ):
            for _ in range(600):
                part.write(bytes(1024**2))
    fails.add(into / "bomb.txt.gz")
    (into / "bomb.txt.gz").write_bytes(gzip.compress(bytes(1024**2)) * 600)
    fails.add(into / "cut.txt.gz")
    (into / "cut.txt.gz").write_bytes(gzip.compress(b"text" * 1000)[:-4])
    fails.add(into / "binary.txt")
    (into / "binary.txt").write_bytes(bytes(range(256)))
    may.add(into / "deep.html")  # which a library may take for ever for
    (into / "deep.html").write_text("<div>" * 300_000 + "text")
    return fails, may


def _files(folder: Path) -> Iterator[Path]:
    for inside, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(inside) / name
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST_BYTES:
                yield path

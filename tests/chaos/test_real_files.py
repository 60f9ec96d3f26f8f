"""Hundreds of real files of every kind, among broken ones and bombs: each is published or named, and told rightly."""

import asyncio
import json
import re
import shutil
import subprocess
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psutil
import pytest

from agents.indexing.preflight import create_index
from agents.settings.environment import cache_dir
from tests.kit import real_files
from tests.kit.harness import World
from tests.stack.test_sources import records

MODEL_SPEED = "fast"
FILES, KINDS, MOST = 500, 12, 60
MIB = 1024**2
INGESTOR_BYTES, WORKER_BYTES = 300 * MIB, 600 * MIB
"""Of resident memory, at most; the process that converts has a bound of its own."""
GRAM = 8
"""Characters by which the text of a chunk and that of a page are held against each other."""


@pytest.mark.timeout(7200)
def test_every_real_file_is_published_or_named(world: World, tmp_path: Path, summary: dict[str, Any]) -> None:
    folder = tmp_path / "files"
    told = real_files.fetch(cache_dir() / "real-files")
    here = [cache_dir() / "real-files" / "unpacked", *map(Path, dict.fromkeys(real_files.HERE))]
    whole = real_files.collect(here, folder, MOST)
    whole[".xhtml"] = real_files.chapters(whole.get(".epub", []), folder, MOST)
    whole = {kind: paths for kind, paths in whole.items() if paths}
    count = sum(map(len, whole.values()))
    for kind, paths in sorted(whole.items()):
        summary[f"real files: {kind}"] = len(paths)
    if count < FILES or len(whole) < KINDS:
        pytest.skip(f"{count} real files of {len(whole)} kinds here, not {FILES} of {KINDS}. {told}")
    fails, may = real_files.damage(whole, folder / "damaged")

    found, ingestor = asyncio.run(_ingest(world, folder))
    named = {Path(re.sub(r"\[\d+\]$", "", row["origin"])) for row in found["failures"]}
    published = {_path_of(record.key or b""): json.loads(record.value or b"") for record in asyncio.run(records(world))}
    real = {path for paths in whole.values() for path in paths}
    silent = real - named - published.keys()
    summary["real files: published, named, without a text"] = [
        len(real & set(published)),
        len(real & named),
        len(silent),
    ]
    for path in sorted(real & named):
        reason = next(row["reason"] for row in found["failures"] if row["origin"].startswith(str(path)))
        summary[f"real files: {path.parent.name}/{path.name}"[:70]] = reason[:100]
    assert fails <= named, fails - named
    assert not fails & published.keys()
    assert named <= real | fails | may, named - real - fails - may

    chunks, worker = asyncio.run(_index(world))
    summary["real files: MiB of ingestor, worker"] = [ingestor // MIB, worker // MIB]
    assert ingestor < INGESTOR_BYTES
    assert worker < WORKER_BYTES
    by_path: dict[Path, list[dict[str, Any]]] = {path: [] for path in published}
    for row in chunks.values():
        told_of = row["metadata"]
        path = _path_of(told_of["doc_id"].encode())
        by_path[path].append(row)
        assert row["text"] == published[path]["text"][told_of["start"] : told_of["end"]]
    summary["real files: chunks"] = len(chunks)
    assert not [path for path, rows in by_path.items() if not rows and published[path].get("text", "").strip()]
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext (poppler-utils) is not here to hold pages against")
    assert not [path for path in silent if path.suffix == ".pdf" and _words(path)]
    counted, wrong = Counter[str](), list[str]()
    for path, rows in by_path.items():
        if path.suffix == ".pdf":
            pages = _pages(path)
            for row in rows:
                verdict = _verdict(row["text"], row["metadata"]["page"], row["metadata"]["page_end"], pages)
                counted[verdict] += 1
                if verdict == "wrong":
                    wrong.append(f"{path.name} {row['metadata']['page']}: {row['text'][:60]!r}")
    summary["real files: pages of PDF chunks"] = dict(counted)
    assert counted["right"] > 100
    assert not wrong, (len(wrong), wrong[:10])


async def _ingest(world: World, folder: Path) -> tuple[dict[str, Any], int]:
    """What it says of itself, and its memory at most. No process that it began is left."""
    output, errors = world.tmp / "ingest.json", world.tmp / "ingest.log"
    words = ("ingest", "files", str(folder), "--json")
    process = await asyncio.to_thread(world.start, *words, output=output, errors=errors)
    seen, most = set[psutil.Process](), 0
    while process.poll() is None:
        try:
            ingestor = psutil.Process(process.pid)
            most = max(most, ingestor.memory_info().rss)
            seen.update(ingestor.children(recursive=True))
        except psutil.NoSuchProcess:
            pass
        await asyncio.sleep(0.1)
    assert process.poll() == 1, errors.read_text()[-3000:]  # some failed
    assert seen
    assert not [one for one in seen if one.is_running()]
    found: dict[str, Any] = json.loads(output.read_text())
    return found, most


async def _index(world: World) -> tuple[dict[str, dict[str, Any]], int]:
    """The chunks, and the worker's memory at most."""
    await create_index(world.settings)
    worker = world.start_worker()
    process, most = psutil.Process(worker.process.pid), 0
    settled = asyncio.ensure_future(world.settled(timeout_s=3600, worker=worker))
    while not settled.done():
        most = max(most, process.memory_info().rss)
        await asyncio.sleep(0.2)
    await settled
    stages = {dict(letter.headers)["__connect.errors.stage"] for letter in await world.dead_letters()}
    assert stages == {b"source"}, stages  # of what could not be read; none of what was published
    chunks = await world.chunks()
    assert await asyncio.to_thread(worker.terminate) == 0
    return {key: row for key, row in chunks.items() if row.get("text")}, most


def _path_of(key: bytes) -> Path:
    return Path(unquote(urlsplit(key.decode()).path))


def _pages(path: Path) -> list[str]:
    done = subprocess.run(["pdftotext", path, "-"], capture_output=True, check=False, timeout=600)
    return [_bare(page) for page in done.stdout.decode(errors="replace").split("\f")]


def _words(path: Path) -> str:
    return "".join(_pages(path))


def _bare(text: str) -> str:
    """Letters and digits alone: spaces, hyphens and ligatures are a matter of taste."""
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


def _verdict(text: str, first: int, last: int, pages: list[str]) -> str:
    """Whether a chunk is from these pages, as another reader has them: no others, as many, have more of it."""
    bare, span = _bare(text), last - first + 1
    grams = {bare[at : at + GRAM] for at in range(max(1, len(bare) - GRAM + 1))}

    def share(page: int) -> float:
        there = "".join(pages[page - 1 : page - 1 + span])
        return sum(gram in there for gram in grams) / len(grams)

    own = share(first)
    if own >= 0.9:
        return "right"
    best = max(share(page) for page in range(1, len(pages) + 1))
    if best < 0.5:
        return "not comparable"  # the two read other characters
    return "right" if own >= best - 0.02 else "wrong"

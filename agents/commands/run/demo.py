"""`penstock demo`."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import AnyHttpUrl
from rich.text import Text

from agents.commands.common import say
from agents.commands.run.local import bring_up
from agents.commands.run.output import console, place_in_text
from agents.commands.run.progress import progress_bar
from agents.commands.run.watch import passed_over
from agents.elastic.client import connect
from agents.elastic.index import Index
from agents.indexing.preflight import create_index
from agents.local import (
    DEFAULT_ELASTICSEARCH_PORT,
    DEFAULT_KAFKA_PORT,
    ELASTICSEARCH_VERSION,
    KAFKA_VERSION,
    stack,
)
from agents.local import demo as steps
from agents.local.servers import free_port, require_free
from agents.operations.search import QueryModels, search
from agents.settings import Settings
from agents.settings.environment import cache_dir
from agents.settings.loading import load_settings
from agents.sources import Source
from agents.sources.files import Files
from agents.sources.pydocs import read_modules
from agents.sources.reading import Ids
from agents.stopping import begin, finish
from agents.terminal import in_short
from models.export.exporter import ensure_model
from streams.errors import PenstockError

SOME = 3
"""Questions."""
KEPT = "kept"
"""A file in the folder of a stack that somebody wanted to go on with: it is not deleted by a later demo.

It says of which folder its documents are; nothing, of the standard library's documentation.
"""
T = TypeVar("T")


def demo(*, keep: bool, documents: Path | None = None, questions: Sequence[str] = ()) -> None:
    """All of it; stops what it started, and deletes it unless `keep`, now or before.

    `documents`: a folder; None: the standard library's documentation.
    """
    folder = cache_dir() / "demo"
    settings = _settings(folder)
    ran, kept = bool(stack.status(folder)), (folder / KEPT).exists() and (folder / "kafka").exists()
    corpus = _corpus(documents)
    if kept and (before := (folder / KEPT).read_text()) != corpus:
        raise PenstockError(
            f"the servers that were kept have {_documents_of(before)}, and would answer with these, too. Delete them "
            f"with `penstock local wipe --dir {folder}`; or name the same documents again"
        )
    begin()
    try:
        if not (ran or kept):
            stack.wipe(folder)
        _run(settings, folder, documents, questions, keep=keep)
    except BaseException:
        if keep and stack.status(folder):
            say(f"\nthe servers are still up: `penstock local down --dir {folder}` stops them", err=True)
        raise
    finally:
        if not (keep or ran):
            say("stopping the servers", err=True)
            stack.down(folder)
            if not kept:
                stack.wipe(folder)
                shutil.rmtree(folder, ignore_errors=True)
    if keep:
        _kept(settings, folder)
    elif ran or kept:
        up = "the servers ran before, and are left up" if ran else "the data was kept before, and still is"
        say(f"\n{up}: `penstock local wipe --dir {folder}` stops and deletes them")


def _run(settings: Settings, folder: Path, documents: Path | None, questions: Sequence[str], *, keep: bool) -> None:
    corpus = _corpus(documents)
    reading: Future[Source] = ThreadPoolExecutor(1).submit(lambda: _source(documents))  # takes seconds, as the servers
    with _step("1/6 start a broker and Elasticsearch"):
        bring_up(_options(settings, folder))
        if keep:
            (folder / KEPT).write_text(corpus)
    with _step(f"2/6 export the model {settings.model.name}"):
        ensure_model(
            str(steps.bundled_model()),
            name=settings.model.name,
            models=settings.model.dir,
            cache=cache_dir(),
            say=lambda line: say(f"    {line}", err=True),
        )
    with _step(f"3/6 publish {_documents_of(corpus)}"):
        source = reading.result()
        published = _with_bar("publishing", lambda tick: finish(steps.publish_all(settings, source, tick)))
        for failure in published.run.failures:
            say(f"    left out: {failure.origin}: {failure.reason}", err=True)
        for line in passed_over(published.run):
            say(f"    {line}", err=True)
    with _step("4/6 create the index"):
        made, _ = finish(create_index(settings))
        say(f"    {made.index}", err=True)
    with _step("5/6 split, embed and index until the lag is 0"):
        log = folder / "worker.log"
        with steps.worker_process(settings, log) as process:
            summary = _with_bar(
                "searchable documents",
                lambda tick: finish(steps.follow(settings, process, log, published.at, tick)),
            )
    asked = questions or (published.titles[:SOME] if documents else steps.QUESTIONS)
    with _step(f"6/6 ask {len(asked)} questions"):
        finish(_answer(settings, asked))
    _print(summary)


def _corpus(documents: Path | None) -> str:
    """A name for what a demo is about."""
    return str(documents.resolve()) if documents else ""


def _documents_of(folder: str) -> str:
    return f"the documents of {folder}" if folder else "the standard library's documentation"


def _source(documents: Path | None) -> Source:
    return Files(documents, Ids()) if documents else steps.Prepared(list(read_modules()))


async def _answer(settings: Settings, questions: Sequence[str]) -> None:
    out = console()
    async with connect(settings.elasticsearch) as client:
        generation = await Index(client, settings).generation()
        with closing(QueryModels(settings)) as models:
            for question in questions:
                out.print(Text(f"\n  “{question}”", style="bold"))
                asked = await models.question(generation, question)
                for hit in await search(client, settings, generation, asked, 3):
                    metadata = hit["metadata"]
                    name = in_short(metadata.get("title") or metadata["doc_id"], 60) + place_in_text(metadata)
                    line = f"    {hit['score']:.3f}  {name:<60}  " + in_short(" ".join(hit["text"].split()), 80)
                    out.print(Text(line), soft_wrap=True)
    out.print()


def _print(summary: steps.Summary) -> None:
    if not summary.complete:
        raise PenstockError("the index is not complete: a document lacks chunks")
    rate = summary.embedded / summary.seconds
    say(
        f"documents {summary.documents}   chunks {summary.chunks}   embedded {summary.embedded}   "
        f"in {summary.seconds:.1f} s\n"
        f"docs/s {summary.documents / summary.seconds:.1f}   chunks/s {rate:.1f}   "
        f"source→searchable p50 {summary.percentile(50):.1f} s, p95 {summary.percentile(95):.1f} s\n"
        f"every document's chunks are in the index exactly once"
    )


def _settings(folder: Path) -> Settings:
    """The user's settings, but with servers of the demo's own: on the usual ports where these are free."""
    settings = load_settings()
    ports = {server.name: server.port for server in stack.status(folder)}
    kafka = ports.get("kafka") or _port(DEFAULT_KAFKA_PORT)
    elastic = ports.get("elasticsearch") or _port(DEFAULT_ELASTICSEARCH_PORT)
    return settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update={"bootstrap_servers": f"127.0.0.1:{kafka}"}),
            "elasticsearch": settings.elasticsearch.model_copy(
                update={"url": AnyHttpUrl(f"http://127.0.0.1:{elastic}")}
            ),
            "admin": settings.admin.model_copy(update={"port": free_port()}),
        }
    )


def _port(usual: int) -> int:
    try:
        require_free(usual, "")
    except PenstockError:
        return free_port()
    return usual


def _options(settings: Settings, folder: Path) -> stack.StackOptions:
    return stack.StackOptions(
        folder=folder,
        cache=cache_dir(),
        kafka_port=int(settings.kafka.bootstrap_servers.rpartition(":")[2]),
        elasticsearch_port=settings.elasticsearch.url.port or DEFAULT_ELASTICSEARCH_PORT,
        kafka_version=KAFKA_VERSION,
        elasticsearch_version=ELASTICSEARCH_VERSION,
    )


def _kept(settings: Settings, folder: Path) -> None:
    usual = settings.kafka.bootstrap_servers == f"127.0.0.1:{DEFAULT_KAFKA_PORT}"
    usual = usual and settings.elasticsearch.url.port == DEFAULT_ELASTICSEARCH_PORT
    lines = (
        []
        if usual
        else [
            f"  export PENSTOCK_KAFKA__BOOTSTRAP_SERVERS={settings.kafka.bootstrap_servers}",
            f"  export PENSTOCK_ELASTICSEARCH__URL={settings.elasticsearch.url}",
        ]
    )
    lines += ['  penstock search "your own question"', "  penstock worker", f"  penstock local down --dir {folder}"]
    say("\nthe servers are still up; try (in the environment: . .venv/bin/activate)\n" + "\n".join(lines))


@contextmanager
def _step(title: str) -> Iterator[None]:
    say(title, err=True)
    try:
        yield
    except PenstockError as exc:
        exc.args = (f"step {title} failed: {exc}",)
        raise


def _with_bar(title: str, work: Callable[[steps.Tick], T]) -> T:
    with progress_bar() as bar:
        task = bar.add_task(f"    {title}", total=None)
        return work(lambda done, total: bar.update(task, completed=done, total=total))

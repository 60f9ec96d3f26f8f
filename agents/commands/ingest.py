"""`penstock ingest`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from agents.commands.common import MOMENT, Number, json_option, settings_option
from agents.commands.lazy import Group

if TYPE_CHECKING:
    from agents.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


FILE = click.Path(path_type=Path, dir_okay=False)


class _DeletesType(click.ParamType):
    """A number of documents, or a share of them: `25`, `10%`."""

    name = "number or share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        """A number as int, a share as float. Fails with what is wrong."""
        if not isinstance(value, str):
            return float(value) if isinstance(value, float) else int(value)
        found = re.fullmatch(r"(\d+)(%?)", value)
        if not found or (found[2] and int(found[1]) > 100):
            self.fail(f"{value!r} is neither a number of documents (25) nor a share of them (10%)", param, ctx)
        return int(found[1]) / 100 if found[2] else int(found[1])


dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
prefix_option = click.option("--prefix", default="", help="Put this before every id.")
max_lag_option = click.option(
    "--max-lag",
    type=click.IntRange(0),
    default=10_000,
    show_default=True,
    help="Wait while the lag is above.",
)
metrics_option = click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Meanwhile serve /metrics there, at admin.host; 0: at any free one.",
)
partitions_option = click.option(
    "--partitions", type=click.IntRange(1), default=8, show_default=True, help="Of a topic made now."
)


def source_options(function: F) -> F:
    """What every source has that is listed before it is read."""
    strict = click.option("--strict", is_flag=True, help="Publish nothing when anything fails; reads all twice.")
    return crawled_options(strict(function))


def crawled_options(function: F) -> F:
    """What every source has."""
    for option in reversed(
        (
            click.option("--sync", is_flag=True, help="Delete the documents of what is gone from the source."),
            click.option(
                "--max-deletes",
                type=_DeletesType(),
                default="10%",
                show_default=True,
                help="Refuse to delete more documents of a source than that; of a share, one may always go.",
            ),
            click.option("--again", is_flag=True, help="Publish what is unchanged, too."),
            dry_run_option,
            prefix_option,
            max_lag_option,
            partitions_option,
            json_option,
            settings_option,
        )
    ):
        function = option(function)
    return function


def listing_options(function: F) -> F:
    """What every source has that is listed."""
    by = click.option(
        "--id",
        "by",
        type=click.Choice(["uri", "relative"]),
        default="uri",
        show_default=True,
        help="Name documents by URI, or by the path in what was named.",
    )
    return by(pattern_options(function))


def pattern_options(function: F) -> F:
    """Which objects of a source, and when."""
    for option in reversed(
        (
            click.option(
                "--include",
                multiple=True,
                metavar="GLOB",
                help="Only what matches, by its path in what was named: '*.md', 'docs/**'. May be repeated.",
            ),
            click.option("--exclude", multiple=True, metavar="GLOB", help="Nothing that matches; wins over --include."),
            click.option("--delete-excluded", is_flag=True, help="With --sync: what is excluded counts as gone."),
            click.option(
                "--watch",
                "every_s",
                type=Number(1),
                metavar="SECONDS",
                help="List again so long after each time, until Ctrl-C or SIGTERM.",
            ),
            metrics_option,
        )
    ):
        function = option(function)
    return function


@click.group(cls=Group)
def ingest() -> None:
    """Publish documents to the source topic: what changed since the last time, or is sent over HTTP.

    \b
    Example: penstock ingest files docs/
    Example: penstock ingest s3 s3://handbook/docs/ --sync
    Example: penstock ingest serve
    """


@ingest.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@listing_options
@source_options
def files(paths: tuple[Path, ...], by: Literal["uri", "relative"], settings: "Settings", **options: Any) -> None:
    """Publish files and folders as documents, as in `penstock ingest files docs/`; again, only what changed.

    Text, Markdown, HTML, PDF, office files and tables are a document each, and so is each line of a JSON-lines file.
    Folders are searched, links to folders in them are not.

    What changed since the last time is read and published, and the rest is passed over. A bad file, or a bad line, is
    listed at the end, where the exit code is 1; the others are published.

    The id of a document in JSON is its `id`, whether it has a line of its own (.jsonl) or is in an array (.json). A
    .json file may also be one document, which needs none.

    Patterns are held against the path in what was named, folder by folder; `**` is any number of folders, and a pattern
    without a slash is held against the name. Documents of what is excluded stay as they are, unless --delete-excluded.

    \b
    Example: penstock ingest files docs/ notes.md corpus.jsonl
    Example: penstock ingest files docs/ --sync --dry-run
    Example: penstock ingest files docs/ --include '*.md' --exclude 'drafts/**' --watch 10
    """
    from agents.commands.run.ingest import files as run

    run(settings, paths, by=by, **options)


endpoint_option = click.option("--endpoint", metavar="URL", help="Of a server that is not Amazon's.")
region_option = click.option("--region", help="Where the environment does not say.")


@ingest.command()
@click.argument("uris", nargs=-1, required=True, metavar="s3://BUCKET/PREFIX...")
@endpoint_option
@region_option
@click.option(
    "--events",
    metavar="TOPIC",
    help="Publish what the bucket's notifications on this Kafka topic tell of, until Ctrl-C or SIGTERM.",
)
@listing_options
@source_options
def s3(
    uris: tuple[str, ...],
    endpoint: str | None,
    region: str | None,
    by: Literal["uri", "relative"],
    settings: "Settings",
    **options: Any,
) -> None:
    """Publish the objects of a bucket whose keys begin with a prefix, of the kinds that `ingest files` reads.

    Credentials are found as Amazon's own tools find them. Needs `pip install '.[s3]'`, and `documents` for more
    than text.

    With --events the bucket is listed once; another run goes on where that one was. Notifications may be lost: --watch
    beside it lists the bucket from time to time.

    \b
    Example: penstock ingest s3 s3://handbook/docs/ --sync
    Example: penstock ingest s3 s3://handbook --endpoint http://127.0.0.1:9000 --region us-east-1
    Example: penstock ingest s3 s3://handbook --events handbook-events --watch 3600 --sync
    """
    from agents.commands.run.ingest import s3 as run

    run(settings, uris, endpoint=endpoint, region=region, by=by, **options)


@ingest.command()
@click.argument("uris", nargs=-1, required=True, metavar="gs://BUCKET/PREFIX...")
@click.option("--endpoint", metavar="URL", help="Of a server that is not Google's.")
@listing_options
@source_options
def gcs(uris: tuple[str, ...], settings: "Settings", **options: Any) -> None:
    """Publish the objects of a bucket of Google Cloud Storage, of the kinds that `ingest files` reads.

    Credentials are found as Google's own tools find them. Needs `pip install '.[obstore]'`, and `documents` for
    more than text.

    \b
    Example: penstock ingest gcs gs://handbook/docs/ --sync
    Example: penstock ingest gcs gs://handbook --include '*.md' --watch 60
    """
    from agents.commands.run.ingest import gcs as run

    run(settings, uris, **options)


@ingest.command()
@click.argument("uris", nargs=-1, required=True, metavar="az://CONTAINER/PREFIX...")
@click.option("--account", help="The storage account, where the environment does not say.")
@click.option("--endpoint", metavar="URL", help="Of a server that is not Microsoft's.")
@listing_options
@source_options
def azure(uris: tuple[str, ...], settings: "Settings", **options: Any) -> None:
    """Publish the blobs of a container of Azure's, of the kinds that `ingest files` reads.

    Credentials come from AZURE_STORAGE_ACCOUNT_KEY and the like, from the machine's identity, or, with
    AZURE_USE_AZURE_CLI=true, from `az login`. Needs `pip install '.[obstore]'`, and `documents` for more than
    text.

    \b
    Example: penstock ingest azure az://handbook/docs/ --account mine --sync
    Example: penstock ingest azure az://handbook --account mine --include '*.md' --watch 60
    """
    from agents.commands.run.ingest import azure as run

    run(settings, uris, **options)


@ingest.command()
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@click.option("--depth", type=click.IntRange(0), metavar="LINKS", help="Follow no more links than that from the URL.")
@click.option(
    "--max-pages",
    type=click.IntRange(1),
    default=100_000,
    show_default=True,
    help="Visit no more in one crawl; then nothing that was not found is deleted.",
)
@click.option(
    "--delay",
    "delay_s",
    type=Number(0),
    default=0.25,
    show_default=True,
    metavar="SECONDS",
    help="Between two requests of a host; more where its robots.txt wants it.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Requests of a host at once, at most.",
)
@click.option("--contact", metavar="URL-OR-MAIL", help="Told to sites, so that their owners can reach you.")
@click.option("--allow-private", is_flag=True, help="Also addresses of an intranet, and of this machine.")
@click.option("--sitemaps/--no-sitemaps", default=True, show_default=True, help="Also what a site's sitemaps name.")
@click.option(
    "--ignore-query",
    "ignored",
    multiple=True,
    metavar="GLOB",
    help="Leave this parameter out of URLs: 'utm_*'. May be repeated.",
)
@pattern_options
@crawled_options
def web(urls: tuple[str, ...], settings: "Settings", **options: Any) -> None:
    """Publish the pages of a site: what a URL leads to on its host, in its folder. A sitemap leads to what it names.

    HTML is read without navigation and the like, and so are the kinds of files that `ingest files` reads. robots.txt,
    `nofollow` and `noindex` are obeyed. A page that did not change is not read again. A crawl that was killed is gone
    on with by the next run; --again begins anew.

    Patterns are held against the path below the URL's folder, with its query; the URL itself is visited in any case.

    Needs `pip install '.[web]'`, and `documents` for PDF and office files.

    \b
    Example: penstock ingest web https://docs.example.org/guide/ --sync
    Example: penstock ingest web https://example.org/sitemap.xml --exclude 'tags/' --ignore-query 'utm_*'
    Example: penstock ingest web http://wiki.intranet/ --allow-private --delay 0 --max-pages 20000 --watch 3600
    """
    from agents.commands.run.ingest import web as run

    run(settings, urls, **options)


@ingest.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Other machines need --tokens, and TLS.")
@click.option("--port", type=click.IntRange(0, 65535), default=8464, show_default=True, help="0: any free one.")
@click.option("--tokens", type=FILE, help="Who may publish which ids: `penstock ingest token` makes its entries.")
@click.option("--tls-cert", type=FILE, help="Certificate, with those that signed it (PEM).")
@click.option("--tls-key", type=FILE, help="Its key, where that is not in the same file.")
@click.option("--allow-plaintext-tokens", is_flag=True, help="Without TLS: something before it ends that.")
@click.option(
    "--max-lag", type=click.IntRange(1), default=10_000, show_default=True, help="Refuse (429) while the lag is there."
)
@click.option("--partitions", type=click.IntRange(1), default=8, show_default=True, help="Of a topic made now.")
@settings_option
def serve(settings: "Settings", **options: Any) -> None:
    """Take documents over HTTP until stopped, and answer when Kafka has them.

    PUT and DELETE /documents/ID take one document, or a file that is made one; POST /documents takes NDJSON, and
    answers line by line; `?wait=searchable` answers when a search finds it. /openapi.json says all of it.

    Without --tokens it listens on this machine alone. What is published is not remembered as other sources do: who
    pushes documents knows what it has. SIGTERM drains within lifecycle.drain_s and exits 0; a second one exits at once.

    \b
    Example: penstock ingest serve
    Example: penstock ingest serve --host 0.0.0.0 --tokens tokens.toml --tls-cert server.pem --tls-key server.key
    Then:    curl -X PUT -H 'Content-Type: application/json' -d '{"text": "…"}' localhost:8464/documents/notes%2F1
    Then:    curl -T report.pdf 'localhost:8464/documents/report?filename=report.pdf&wait=searchable'
    """
    from agents.commands.run.ingest_serve import serve as run

    run(settings, **options)


@ingest.command()
@click.argument("name")
@click.option("--prefix", "prefixes", multiple=True, help="Of ids that it may publish; again for more; '': every id.")
@json_option
def token(name: str, prefixes: tuple[str, ...], as_json: bool) -> None:
    """Make a token for `penstock ingest serve`: it is shown once, the file of --tokens has its hash.

    Without --prefix it may publish nothing, and read /metrics.

    \b
    Example: penstock ingest token crm --prefix crm/ --prefix mail/ >> tokens.toml
    """
    from agents.commands.run.ingest_token import token as run

    run(name, prefixes, as_json=as_json)


class _StartType(click.ParamType):
    """`trim-horizon`, `latest`, or a moment as `MOMENT` takes it."""

    name = "trim-horizon|latest|time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A moment as epoch milliseconds. Fails with what is wrong."""
        return value if value in ("trim-horizon", "latest") else MOMENT.convert(value, param, ctx)


@ingest.command()
@click.argument("stream")
@endpoint_option
@region_option
@click.option(
    "--from",
    "start",
    type=_StartType(),
    default="trim-horizon",
    show_default=True,
    help="Where to begin with a stream that was never read.",
)
@click.option(
    "--id",
    "by",
    type=click.Choice(["json", "partition-key"]),
    default="json",
    show_default=True,
    help="Name documents by their `id`, or by the record's partition key.",
)
@prefix_option
@click.option("--once", is_flag=True, help="End when every shard is read up to now.")
@click.option("--forget-missed", "forget", is_flag=True, help="What is listed as missed till now was sent again.")
@click.option("--dry-run", is_flag=True, help="Say how far each shard is, and do nothing.")
@metrics_option
@max_lag_option
@partitions_option
@json_option
@settings_option
def kinesis(stream: str, settings: "Settings", **options: Any) -> None:
    """Publish what comes in a stream of Kinesis, named or by its ARN, until stopped.

    A record's data is a document as JSON, with an `id`. How far each shard is read is written in the transaction of its
    records: nothing is lost, or there twice, whatever ends it. Split and merged shards are read in their order, and the
    records of the producer library are unpacked. What is no document is published all the same, and dead-lettered by
    the worker, with the reason.

    What retention took before it was read is logged as an error and listed, to be sent again; the exit code is 1 then.
    SIGTERM and Ctrl-C end it with 0, as they do a worker.

    Credentials are found as Amazon's own tools find them. Needs `pip install '.[kinesis]'`.

    \b
    Example: penstock ingest kinesis documents --region eu-central-1
    Example: penstock ingest kinesis documents --from 2h --id partition-key
    Example: penstock ingest kinesis documents --dry-run
    """
    from agents.commands.run.ingest_kinesis import kinesis as run

    run(settings, stream, **options)

"""`penstock index verify`."""

import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from agents.commands.common import say
from agents.commands.run.output import print_json
from agents.commands.run.progress import progress_bar, reporter
from agents.indexing.preflight import check
from agents.operations.verify import Verified
from agents.operations.verify import verify as verify_index
from agents.settings import Settings
from agents.stopping import finish
from agents.terminal import in_line


def verify(
    settings: Settings,
    *,
    repair: bool,
    accept_data_loss: bool,
    sample: int,
    limit: int,
    metrics: Path | None,
    as_json: bool,
) -> None:
    """Look, mend where that is asked for, and tell; ends the process with 1 where damage is left."""
    found, left = finish(_verify(settings, repair, accept_data_loss, sample))
    last = left or found
    if as_json:
        print_json({**_data(found, limit), "after_repair": _data(left, limit) if left else None})
    else:
        _print(found, limit)
        if found.unsettled and found.fed_by not in (None, settings.source.group):
            say(f"the group {found.fed_by} fills this index, not {settings.source.group}: is source.group right?")
        if found.serving:
            index, group = found.serving
            told = f": `PENSTOCK_SOURCE__GROUP={group} penstock index verify` is about that one" if group else ""
            say(f"readers of {settings.elasticsearch.alias} see {index}, which was not looked at{told}")
        if left:
            say("\nafter the repair:")
            _print(left, limit)
            if left.kinds["missing chunk"]:
                say("a chunk that was deleted less than a minute ago (`index.gc_deletes`) is written by a later repair")
    if metrics:
        _write_metrics(metrics, last)
    sys.exit(1 if last.damaged else 0)


async def _verify(
    settings: Settings, repair: bool, accept_data_loss: bool, sample: int
) -> tuple[Verified, Verified | None]:
    checked = await check(settings, any_log=not repair)  # to look at what is wrong is always right
    with closing(checked), progress_bar() as bar:
        return await verify_index(
            settings,
            checked,
            repair=repair,
            accept_data_loss=accept_data_loss,
            sample=sample,
            report=reporter(bar),
        )


def _data(verified: Verified, limit: int) -> dict[str, Any]:
    widths = sorted(verified.widths.items())
    return {
        "index": verified.index,
        "clean": not verified.damaged,
        "documents": verified.documents,
        "deleted": verified.deleted,
        "chunks": verified.chunks,
        "vectors": verified.vectors,
        "document_vectors": verified.document_vectors,
        "widths": {str(width): dict(zip(("vectors", "wrong"), counts, strict=True)) for width, counts in widths},
        "unsettled": verified.unsettled,
        "held_back": verified.held_back,
        "seconds": verified.seconds,
        "kinds": dict(verified.kinds),
        "findings": verified.first(limit),
    }


def _print(verified: Verified, limit: int) -> None:
    for finding in verified.first(limit):
        say(in_line(f"{finding.kind}: {finding.where}: {finding.what}"))
    if sum(verified.kinds.values()) > limit:
        say(f"… {sum(verified.kinds.values()) - limit} more")
    clean = "nothing wrong so far" if verified.unsettled or verified.held_back else "nothing wrong"
    told = ", ".join(f"{count} {kind}" for kind, count in verified.kinds.most_common()) or clean
    without = f" and {verified.deleted} without chunks (deleted, or dead letters)" if verified.deleted else ""
    counts = f"{verified.documents} documents{without}, {verified.chunks} chunks, {verified.vectors} vectors"
    say(f"{verified.index}: {counts}: {told}")
    if verified.unsettled:
        say(f"{verified.unsettled} records are not settled yet, and were not looked at: again, when the lag is 0")
    if verified.not_compared:
        say(f"{verified.not_compared} documents are too large to be compared here: that is no whole verification")
    if verified.held_back:
        say(
            f"{verified.held_back} offsets are behind an open transaction, and were not looked at: workers read them "
            "when it ends (`penstock status` names the partitions)"
        )


def _write_metrics(path: Path, verified: Verified) -> None:
    """For the textfile collector of node_exporter."""
    registry = CollectorRegistry()
    findings = Gauge("penstock_verify_findings", "Findings of the last verification.", ["kind"], registry=registry)
    for kind, count in verified.kinds.items():
        findings.labels(kind).set(count)
    for name, text, value in (
        ("damaged", "Findings that are damage.", verified.damaged),
        ("documents", "Documents that were looked at.", verified.documents),
        ("chunks", "Chunks that were looked at.", verified.chunks),
        ("timestamp_seconds", "When it ended.", time.time()),
    ):
        Gauge(f"penstock_verify_{name}", text, registry=registry).set(value)
    write_to_textfile(str(path), registry)

"""`penstock index vacuum`."""

from collections import Counter
from contextlib import closing

from agents.commands.common import say
from agents.commands.run.output import print_json
from agents.commands.run.progress import progress_bar, reporter
from agents.indexing.preflight import check
from agents.operations.vacuum import vacuum as vacuum_index
from agents.settings import Settings
from agents.stopping import finish


def vacuum(settings: Settings, before_ms: int, *, dry_run: bool, as_json: bool) -> None:
    """Delete, or count."""
    deleted = finish(_vacuum(settings, before_ms, dry_run))
    if as_json:
        print_json({"dry_run": dry_run, **{name: deleted[name] for name in ("stubs", "entries", "kept")}})
        return
    told = f"{deleted['stubs']} stubs and {deleted['entries']} entries of deleted documents"
    say(f"{'would delete' if dry_run else 'deleted'} {told}")
    if deleted["kept"]:
        say(f"{deleted['kept']} entries stay: records of earlier epochs are in the topic, and would revive them")


async def _vacuum(settings: Settings, before_ms: int, dry_run: bool) -> Counter[str]:
    checked = await check(settings)
    with closing(checked), progress_bar() as bar:
        return await vacuum_index(settings, checked, before_ms=before_ms, dry_run=dry_run, report=reporter(bar))

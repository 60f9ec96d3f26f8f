"""`penstock config check`."""

from agents.commands.common import say
from agents.indexing.preflight import check as check_all
from agents.settings import Settings
from agents.stopping import finish


def check(settings: Settings) -> None:
    """All that a worker checks at its start."""
    checked = finish(check_all(settings))
    checked.embedder.close()
    say(
        f"ok: {settings.source.topic} ({checked.partitions} partitions) → {checked.identity.index}, "
        f"model {checked.embedder.manifest.name} on {checked.embedder.told().how}"
    )

"""`penstock config check`."""

from agents.commands.common import say
from agents.indexing.preflight import check as check_all
from agents.settings import Settings
from agents.stopping import finish


def check(settings: Settings) -> None:
    """All that a worker checks at its start."""
    checked = finish(check_all(settings))
    checked.close()
    models = ", ".join(f"model {model.manifest.name} on {model.told().how}" for model in checked.models)
    say(f"ok: {settings.source.topic} ({checked.partitions} partitions) → {checked.identity.index}, {models}")
    for route in settings.route:
        say(f"route {route.name}: to {route.model}, in the field {settings.vector_of(route)}")

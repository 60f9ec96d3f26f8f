"""`penstock config check`."""

from collections.abc import Iterator

from agents.commands.common import say
from agents.indexing.preflight import check as check_all
from agents.settings import Settings
from agents.stopping import finish


def warnings(settings: Settings) -> Iterator[str]:
    """What a worker goes on with, and hardly anybody means."""
    prices, folder = settings.cost.models, settings.model.dir
    known = {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set[str]()
    for model in sorted(prices.keys() - known):
        yield f"cost.models.{model}: there is no model {model} in {folder}, so its prices are not used"
    for model in (name for name in settings.models if prices and name not in prices):
        yield f"cost.models has no prices of {model}: all that it embeds counts as 0"


def check(settings: Settings) -> None:
    """All that a worker checks at its start."""
    checked = finish(check_all(settings))
    checked.close()
    for warning in warnings(settings):
        say(f"warning: {warning}", err=True)
    models = ", ".join(f"model {model.manifest.name} on {model.told().how}" for model in checked.models)
    say(f"ok: {settings.source.topic} ({checked.partitions} partitions) → {checked.identity.index}, {models}")
    for route in settings.route:
        say(f"route {route.name}: to {route.model}, in the field {settings.vector_of(route)}")

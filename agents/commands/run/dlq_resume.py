"""`penstock dlq resume`."""

from agents.commands.common import say
from agents.operations.rewind import resume as forget
from agents.settings import Settings
from agents.stopping import finish


def resume(settings: Settings) -> None:
    """Begin the count anew."""
    count = finish(forget(settings))
    say(
        f"the rejected records of {count} partitions are counted anew; their letters stay"
        if count
        else "nothing to forget"
    )

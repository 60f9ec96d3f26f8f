"""`penstock index epoch bump`."""

from agents.commands.common import say
from agents.operations.epoch import bump
from agents.settings import Settings
from agents.stopping import finish


def bump_epoch(settings: Settings, why: str, at_ms: int | None) -> None:
    """Begin it, and say which."""
    done = finish(bump(settings, why, at_ms))
    if not done.made:
        say(f"epoch {done.epoch} goes on: {done.reason}")
        return
    say(f"epoch {done.epoch} begins: {done.reason}: {why}")
    say("start the workers: what they read in it is newer than all that is in the index")

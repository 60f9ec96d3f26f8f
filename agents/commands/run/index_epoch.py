"""`penstock index epoch bump`."""

import asyncio

from agents.commands.common import say
from agents.operations.epoch import bump
from agents.settings import Settings


def bump_epoch(settings: Settings, why: str, at_ms: int | None) -> None:
    """Begin it, and say which."""
    done = asyncio.run(bump(settings, why, at_ms))
    say(f"epoch {done.epoch} {'begins' if done.made else 'goes on'}: {done.reason}")

"""`penstock dlq resume`."""

import asyncio

from agents.commands.common import say
from agents.operations.rewind import resume as forget
from agents.settings import Settings


def resume(settings: Settings) -> None:
    """Begin the count anew."""
    count = asyncio.run(forget(settings))
    say(f"forgot the rejected records of {count} partitions" if count else "nothing to forget")

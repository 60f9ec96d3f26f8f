"""How a bridge ends that a signal stops. What it does is tested with its servers."""

import asyncio

import pytest

from agents.commands.run import ingest_kinesis
from agents.sources.kinesis.bridge import Options
from streams.errors import AwayError


async def _loses_a_stop() -> None:
    """As a client of Kafka does that is connecting."""
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await asyncio.sleep(3600)


@pytest.mark.parametrize("once", [False, True])
def test_a_stop_that_a_library_loses_is_told_again(once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_kinesis, "CANCEL_S", 0.01)

    async def scenario() -> None:
        bridge = asyncio.create_task(ingest_kinesis._until_stopped(_loses_a_stop(), Options(once=once)))
        for _ in range(3):
            await asyncio.sleep(0)
        bridge.cancel()
        await asyncio.wait([bridge], timeout=60)
        assert bridge.done()
        assert bridge.cancelled() == once

    asyncio.run(scenario())


def test_what_ends_it_by_itself_is_said() -> None:
    async def fails() -> None:
        raise AwayError("away")

    with pytest.raises(AwayError, match="away"):
        asyncio.run(ingest_kinesis._until_stopped(fails(), Options()))

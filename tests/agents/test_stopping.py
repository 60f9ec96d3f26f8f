"""A cancellation that a library loses is one all the same. What signals do to commands: `commands/test_stopping.py`."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from agents import stopping
from agents.stopping import cancellable, end_if_asked

FOR_EVER_S = 3600
Call = Callable[[], Awaitable[str]]


async def goes_on() -> str:
    """As one that takes the end of a connection for an error of its own, and makes another one."""
    try:
        await asyncio.sleep(FOR_EVER_S)
    except asyncio.CancelledError:
        await asyncio.sleep(FOR_EVER_S)
    return "over"


async def has_an_answer() -> str:
    try:
        await asyncio.sleep(FOR_EVER_S)
    except asyncio.CancelledError:
        return "an answer"
    return "over"


async def fails() -> str:
    try:
        await asyncio.sleep(FOR_EVER_S)
    except asyncio.CancelledError:
        raise ConnectionError("closed") from None
    return "over"


@pytest.mark.parametrize("call", [goes_on, has_an_answer, fails])
def test_a_call_that_loses_a_cancellation_is_cancelled(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "AGAIN_S", 0.01)

    async def scenario() -> None:
        task = asyncio.ensure_future(cancellable(call))
        while not task.done():
            await asyncio.sleep(0)  # it has begun
            if not task.cancelling():
                task.cancel()
        assert task.cancelled()

    asyncio.run(scenario())


def test_an_answer_in_the_same_moment_loses_no_cancellation() -> None:
    async def scenario(turns: int) -> bool:
        answer = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(cancellable(lambda: answer))
        await asyncio.sleep(0)
        answer.set_result("an answer")
        for _ in range(turns):
            await asyncio.sleep(0)
        asked = task.cancel()
        await asyncio.wait([task])
        return asked == task.cancelled()

    assert all(asyncio.run(scenario(turns)) for turns in range(5))


def test_what_comes_of_a_call_is_passed_on() -> None:
    async def answers() -> str:
        return "an answer"

    async def breaks() -> str:
        raise ConnectionError("closed")

    async def is_cancelled_by_itself() -> str:
        raise asyncio.CancelledError

    assert asyncio.run(cancellable(answers)) == "an answer"
    for call, error in ((breaks, ConnectionError), (is_cancelled_by_itself, asyncio.CancelledError)):
        with pytest.raises(error):
            asyncio.run(cancellable(call))


def test_what_runs_on_and_on_asks() -> None:
    async def scenario() -> None:
        end_if_asked()
        task = asyncio.create_task(turns())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    async def turns() -> None:
        while True:
            await has_an_answer()
            end_if_asked()

    asyncio.run(scenario())

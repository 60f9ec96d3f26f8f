"""What is said of a group that does not take this worker, and which errors are waited for."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    KafkaError,
    RequestTimedOutError,
    UnknownError,
    for_code,
)

from agents.kafka.reader import LogReader
from agents.settings import Settings
from agents.worker.consumer import _Thread
from agents.worker.membership import GroupMaxSizeReachedError, Membership, cause, name_all_errors
from streams.errors import ConfigError, PenstockError, RefusedError


class Members:
    """Of the group, as the reader tells them; `away`: it does not. `gone`: the source topic is."""

    def __init__(self, count: int = 1, *, away: bool = False, gone: bool = False) -> None:
        self.count, self.away, self.gone = count, away, gone

    async def is_gone(self, topic: str) -> bool:
        if self.away:
            raise PenstockError("no broker")
        return self.gone

    async def group_members(self, group: str) -> list[dict[str, str]]:
        if self.away:
            raise PenstockError("no broker")
        return [{"id": f"console-{number}", "host": "10.0.0.7"} for number in range(self.count)]


def require(error: BaseException | None, members: Members | None = None) -> None:
    """As the watchdog does."""
    membership = Membership(Settings(), cast(LogReader, members or Members()))
    asyncio.run(membership.require(error))


def wrapped(kind: type[BaseException]) -> KafkaError:
    """As the coordinator has it of an answer that it does not expect."""
    return KafkaError(repr(kind()))


@pytest.mark.parametrize(
    ("error", "expected", "parts"),
    [
        (InvalidSessionTimeoutError(), ConfigError, ["kafka.session_timeout_s = 10 ", "group.min.session.timeout.ms"]),
        (InconsistentGroupProtocolError(), RefusedError, ["source.group = penstock", "console-0 at 10.0.0.7"]),
        (wrapped(GroupMaxSizeReachedError), PenstockError, ["group.max.size", "fewer workers", "console-0"]),
        (GroupAuthorizationFailedError("penstock"), PenstockError, ["refuses access", "ACL"]),
        (wrapped(UnknownError), PenstockError, ["penstock (UnknownError)", "console-0", "another program"]),
        (KafkaError("KeyError('topic')"), PenstockError, ["KeyError('topic')"]),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_an_error_that_stays_names_its_cause_and_the_fix(
    error: KafkaError, expected: type[PenstockError], parts: list[str]
) -> None:
    name_all_errors()
    with pytest.raises(PenstockError) as raised:
        require(error)
    assert type(raised.value) is expected
    assert [part for part in parts if part not in str(raised.value)] == []


def test_a_client_that_fails_because_the_topic_is_gone_is_no_stranger_in_the_group() -> None:
    with pytest.raises(PenstockError, match=r"the source topic documents is gone, .*AssertionError"):
        require(AssertionError(), Members(gone=True))
    with pytest.raises(PenstockError, match="into the consumer group"):
        require(AssertionError(), Members(away=True))


def test_it_is_named_also_where_the_members_are_not_told_and_where_they_are_many() -> None:
    with pytest.raises(RefusedError, match=r"source.group = penstock, with another protocol"):
        require(InconsistentGroupProtocolError(), Members(away=True))
    with pytest.raises(RefusedError, match=r"console-4 at 10.0.0.7, 2 more\)"):
        require(InconsistentGroupProtocolError(), Members(7))


@pytest.mark.parametrize("error", [None, RequestTimedOutError(), wrapped(RequestTimedOutError)])
def test_what_passes_by_itself_ends_nothing(error: KafkaError | None) -> None:
    require(error)


def test_the_client_gets_a_name_for_what_it_does_not_know() -> None:
    name_all_errors()
    assert for_code(81) is GroupMaxSizeReachedError
    assert cause(KafkaError(f"Unexpected exception in heartbeat task: {UnknownError()!r}")) is UnknownError


def test_an_error_that_is_taken_lets_the_coordinator_try_again() -> None:
    """It waits for that; Faust never takes one, and the group was joined no more."""

    async def scenario() -> None:
        coordinator = object.__new__(GroupCoordinator)
        parts: dict[str, Any] = {
            "_coordination_task": asyncio.get_running_loop().create_future(),
            "_pending_exception": None,
            "_error_consumed_fut": None,
            "_closing": asyncio.get_running_loop().create_future(),
            "_subscription": SimpleNamespace(abort_waiters=lambda _: None),
        }
        coordinator.__dict__.update(parts)
        thread: Any = object.__new__(_Thread)
        thread._consumer, thread.thread_loop = None, asyncio.get_running_loop()
        assert thread.take_group_error() is None
        thread._consumer = SimpleNamespace(_coordinator=coordinator)
        assert thread.take_group_error() is None

        waits = asyncio.ensure_future(coordinator._push_error_to_user(InvalidSessionTimeoutError()))
        await asyncio.sleep(0)
        assert isinstance(thread.take_group_error(), InvalidSessionTimeoutError)
        await waits
        assert thread.take_group_error() is None

        ended = KafkaError("Unexpected error during coordination")
        coordinator._coordination_task.set_exception(ended)
        assert thread.take_group_error() is ended
        assert thread.take_group_error() is ended, "it does not go on"

    asyncio.run(scenario())

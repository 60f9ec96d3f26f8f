"""Whether the consumer group takes this worker: what the client's coordinator ended with, and what to do about it.

aiokafka keeps such an error for whoever asks next, and does nothing until then; Faust never asks.
"""

import logging
import re
from collections.abc import Sequence
from contextlib import suppress

from aiokafka.errors import (
    BrokerResponseError,
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    KafkaError,
    kafka_errors,
)

from agents.kafka.connection import REFUSALS, passes, unreachable
from agents.kafka.reader import LogReader
from agents.settings import Settings
from streams.errors import ConfigError, PenstockError, RefusedError

NAMED = 5
"""As many members of the group are named."""

logger = logging.getLogger(__name__)


class GroupMaxSizeReachedError(BrokerResponseError):  # type: ignore[misc]  # aiokafka is untyped here
    """What aiokafka has no name for."""

    errno = 81
    message = "GROUP_MAX_SIZE_REACHED"
    description = "The group has as many members as the broker allows"


def name_all_errors() -> None:
    """Have aiokafka name those that it takes for unknown ones. Twice is harmless."""
    kafka_errors[GroupMaxSizeReachedError.errno] = GroupMaxSizeReachedError


class Membership:
    """Of this worker in its group."""

    def __init__(self, settings: Settings, reader: LogReader) -> None:
        self._settings = settings
        self._reader = reader

    async def require(self, error: BaseException | None) -> None:
        """Nothing for None, and for an error that passes by itself. Raises PenstockError that names the cause."""
        if error is None:
            return
        kind = cause(error)
        if passes(kind()):
            logger.warning("the group does not take this worker yet", extra={"reason": kind.__name__})
            return
        topic = self._settings.source.topic
        if not issubclass(kind, REFUSALS) and await self._is_gone(topic):
            raise PenstockError(
                f"the source topic {topic} is gone, and the client ended with it ({kind.__name__})"
            ) from error
        members: list[dict[str, str]] = []
        with suppress(PenstockError):
            members = await self._reader.group_members(self._settings.source.group)
        raise refusal(self._settings, error, members) from error

    async def _is_gone(self, topic: str) -> bool:
        with suppress(PenstockError):
            return await self._reader.is_gone(topic)
        return False


def cause(error: BaseException) -> type[BaseException]:
    """The error's class; of one that aiokafka wrapped as text (`KafkaError("UnknownError()")`) the one inside."""
    found = re.search(r"(\w+)\(", str(error)) if type(error) is KafkaError else None
    names = {kind.__name__: kind for kind in kafka_errors.values()}
    return names.get(found[1], KafkaError) if found else type(error)


def refusal(settings: Settings, error: BaseException, members: Sequence[dict[str, str]]) -> PenstockError:
    """What to say of an error that does not pass. `members`: those that the group has."""
    kind, group = cause(error), settings.source.group
    if issubclass(kind, REFUSALS):
        return unreachable(settings.kafka.bootstrap_servers, error)
    if issubclass(kind, InvalidSessionTimeoutError):
        return ConfigError(
            f"kafka.session_timeout_s = {settings.kafka.session_timeout_s:g} is outside the broker's bounds: set it "
            "within its group.min.session.timeout.ms and group.max.session.timeout.ms, or change those"
        )
    if issubclass(kind, InconsistentGroupProtocolError):
        return RefusedError(
            f"another program uses the consumer group of source.group = {group}{_told(members)}, with another protocol "
            "than workers have: stop it, or choose another source.group"
        )
    if issubclass(kind, GroupMaxSizeReachedError):
        return PenstockError(
            f"the consumer group {group} has as many members as the broker's group.max.size allows{_told(members)}: "
            "run fewer workers, or raise it"
        )
    what = str(error) if kind is KafkaError else kind.__name__
    return PenstockError(
        f"the broker does not take this worker into the consumer group {group} ({what}){_told(members)}: its log may "
        "say why; does another program use source.group?"
    )


def _told(members: Sequence[dict[str, str]]) -> str:
    rows = [f"{member['id']} at {member['host']}" for member in members[:NAMED]]
    more = [f"{len(members) - NAMED} more"] if len(members) > NAMED else []
    return f" (members: {', '.join(rows + more)})" if rows else ""

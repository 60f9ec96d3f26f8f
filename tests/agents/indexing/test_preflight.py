"""A group that feeds an index from another topic, too: seen, not to be seen, and not to be asked about now."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agents.indexing.preflight import require_own_group
from streams.errors import AwayError, PenstockError, RefusedError

OTHERS = [SimpleNamespace(index=f"docs-m-00000{n}", contract={"source": {"topic": f"topic-{n}"}}) for n in (1, 2)]


def require(found: list[Any] | PenstockError, *, gone: tuple[str, ...] = ()) -> None:
    """`found`: what Elasticsearch tells of indices that the group feeds from other topics; `gone`: topics."""

    async def fed_beside(*_: str) -> list[Any]:
        if isinstance(found, PenstockError):
            raise found
        return found

    async def is_gone(topic: str) -> bool:
        return topic in gone

    async def mine() -> None:
        """None is there yet."""

    index = SimpleNamespace(group="g", fed_beside=fed_beside, mine=mine)
    asyncio.run(require_own_group(cast(Any, SimpleNamespace(is_gone=is_gone)), cast(Any, index), "documents", "c/d"))


def test_topics_that_are_gone_are_fed_by_nobody() -> None:
    require([])
    require(OTHERS, gone=("topic-1", "topic-2"))
    with pytest.raises(
        RefusedError, match=r"feeds docs-m-000002 from the topic topic-2, and source.topic is documents"
    ):
        require(OTHERS, gone=("topic-1",))


def test_a_login_that_sees_its_own_indices_alone_is_enough() -> None:
    require(PenstockError("Elasticsearch answered 403"))
    with pytest.raises(AwayError):
        require(AwayError("Elasticsearch cannot be reached"))

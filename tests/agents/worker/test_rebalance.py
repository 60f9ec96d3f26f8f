"""A new assignment, as the worker takes it."""

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from agents.worker.app import PenstockApp


def test_nothing_enters_that_the_pipeline_would_not_take() -> None:
    """What Faust still had arrives at any moment: a record that entered and was not taken would stay open for ever."""
    told: list[str] = []

    async def assign(_: Iterable[int]) -> None:
        told.append("records may enter")

    async def compare(*_: Any) -> None:
        told.append("asked for what is committed")

    async def require_same(**_: Any) -> None:
        pass

    async def scenario() -> None:
        running = SimpleNamespace(
            incarnations=SimpleNamespace(require_same=require_same),
            assignment=SimpleNamespace(assign=assign),
            pipeline=SimpleNamespace(resume=lambda: told.append("the pipeline takes")),
        )
        app: Any = SimpleNamespace(
            running=running,
            hold_flow=lambda: told.append("flow held"),
            consumer=SimpleNamespace(assignment=set),
            settings=SimpleNamespace(source=SimpleNamespace(topic="t")),
            checked=SimpleNamespace(models=[]),
            _compare_committed=compare,
        )
        await PenstockApp._assigned(app)

    asyncio.run(scenario())
    assert told == ["flow held", "the pipeline takes", "records may enter", "asked for what is committed"]

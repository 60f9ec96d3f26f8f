"""Hits without what says nearly the same, of whatever was found."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from agents.operations.duplicates import SIGNED, search_distinct
from agents.settings import Settings


def test_of_nothing_nothing_is_distinct_and_nobody_is_asked_for_signatures() -> None:
    generation, asked = SimpleNamespace(contract={"format": SIGNED}), list[int]()

    async def ask(k: int) -> list[Any]:
        asked.append(k)
        return []

    found = search_distinct(cast(Any, None), Settings(), cast(Any, generation), ask, 5)
    assert (asyncio.run(found), len(asked)) == ([], 1)

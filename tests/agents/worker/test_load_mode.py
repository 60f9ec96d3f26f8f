"""Load mode ends, whatever comes in meanwhile."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from elasticsearch import AsyncElasticsearch

from agents.elastic.notes import LOAD_NOTE
from agents.indexing.preflight import Checked
from agents.kafka.reader import LogReader
from agents.settings import Settings
from agents.worker import load_mode
from agents.worker.load_mode import end_when_filled

INDEX = "i"


class Index:
    """An index in load mode, and what is set on it; as much of a client as is used."""

    def __init__(self) -> None:
        self.meta: dict[str, Any] = {"other": 1, LOAD_NOTE: {"refresh_interval": "1s", "number_of_replicas": "1"}}
        self.settings: dict[str, Any] = {}
        self.indices = self

    async def get_mapping(self, **_: Any) -> Any:
        return {INDEX: {"mappings": {}}, f"{INDEX}-registry": {"mappings": {"_meta": self.meta}}}

    async def put_mapping(self, *, meta: dict[str, Any], **_: Any) -> None:
        self.meta = {name: value for name, value in meta.items() if value is not None}

    async def put_settings(self, *, index: str, settings: dict[str, Any]) -> None:
        self.settings[index] = settings

    async def refresh(self, **_: Any) -> None:
        """Nothing to see."""


def test_load_mode_ends_where_the_rest_waits_for_another_day(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, index = list[int](), Index()

    async def rows(*_: Any) -> list[dict[str, Any]]:
        looks.append(len(looks))
        return [{"partition": 0, "settled_offset": 7, "end_offset": 9000, "lag": 8993, "held_back": 0}]

    monkeypatch.setattr(load_mode, "partition_rows", rows)
    monkeypatch.setattr(load_mode, "LOOK_EVERY_S", 0)

    async def scenario() -> None:
        checked = SimpleNamespace(partitions=1, identity=SimpleNamespace(index=INDEX, sink="s"))
        async with asyncio.timeout(60):
            await end_when_filled(
                Settings(),
                cast(Checked, checked),
                cast(LogReader, None),
                cast(AsyncElasticsearch, index),
                pauses=lambda: len(looks) == 3,
            )

    asyncio.run(scenario())
    assert (len(looks), index.meta) == (3, {"other": 1})
    assert index.settings[INDEX] == {"refresh_interval": "1s", "number_of_replicas": "1"}


@pytest.mark.parametrize("ahead", [3, 40])
def test_load_mode_ends_under_constant_input(ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker stays `ahead` records behind for ever, or falls further back: what it first saw is settled once."""
    looks: list[int] = []
    index = Index()

    async def rows(*_: Any) -> list[dict[str, Any]]:
        looks.append(len(looks))
        settled = 10 * len(looks)
        ends = (settled + ahead, settled + ahead + 5 * len(looks))
        return [
            {"partition": p, "settled_offset": settled, "end_offset": end, "lag": end - settled, "held_back": 0}
            for p, end in enumerate(ends)
        ]

    monkeypatch.setattr(load_mode, "partition_rows", rows)
    monkeypatch.setattr(load_mode, "LOOK_EVERY_S", 0)

    async def scenario() -> None:
        checked = SimpleNamespace(partitions=2, identity=SimpleNamespace(index=INDEX, sink="s"))
        client = cast(AsyncElasticsearch, index)
        async with asyncio.timeout(60):
            await end_when_filled(Settings(), cast(Checked, checked), cast(LogReader, None), client)

    asyncio.run(scenario())
    first = max(10 + ahead, 10 + ahead + 5)
    assert len(looks) == -(-first // 10), "as soon as the ends of the first look are settled, and no sooner"
    assert index.meta == {"other": 1}
    assert index.settings[INDEX] == {"refresh_interval": "1s", "number_of_replicas": "1"}

"""What became of a record, as the claims, the registry and a search tell it. No server."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agents.settings import Settings
from agents.sources.http import waiting
from agents.sources.http.log import Place
from agents.sources.http.waiting import Found, Waiting
from streams.epochs import Epochs
from streams.errors import AwayError, NoIndexError
from streams.ids import version
from streams.registry import Entry, State

PLACE = Place(topic="documents", partition=0, offset=7)


def entry(offset: int, state: State = "done", n: int = 1) -> Entry:
    return Entry(
        doc_id="a",
        partition=0,
        version=version(0, offset),
        state=state,
        n=n,
        hi=n,
        content_hash="",
        chunk_index_uuid="",
    )


class World:
    """What is there to be seen: settled below an offset, an entry, and whether a search shows it."""

    def __init__(self) -> None:
        self.settled = 8
        self.found: Entry | None = entry(7)
        self.visible = True
        self.error: Exception | None = None
        self.asked = 0

    async def rows(self, *asked: object) -> list[dict[str, int]]:
        self.asked += 1
        if self.error:
            raise self.error
        return [{"partition": 0, "settled_offset": self.settled}]

    async def entry(self, doc_id: str) -> Entry | None:
        assert doc_id == "a"
        return self.found

    async def shows(self, found: Entry) -> bool:
        assert found is self.found
        return self.visible


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(waiting, "partition_rows", made.rows)
    monkeypatch.setattr(waiting, "Sight", lambda *_: made)
    return made


def waiting_on(most: int = 10, stopping: asyncio.Event | None = None) -> Waiting:
    topic = SimpleNamespace(partitions=1, log="log")
    log: Any = SimpleNamespace(settings=Settings(), reader=object(), topic=topic)
    client: Any = None
    made = Waiting(log, client, most, stopping or asyncio.Event())
    serving: Any = SimpleNamespace(settings=Settings(), identity=SimpleNamespace(sink="sink", epochs=Epochs()))

    async def index() -> Any:
        return serving

    made._index = index  # type: ignore[method-assign]  # what it would ask Elasticsearch
    return made


def found(made: Waiting, seconds: float = 0.01) -> Found:
    return asyncio.run(made.until_searchable("a", PLACE, seconds))


@pytest.mark.parametrize(
    ("settled", "there", "visible", "state"),
    [
        (8, entry(7), True, "searchable"),
        (8, entry(7, n=0), True, "deleted"),
        (8, entry(7), False, "published"),
        (8, entry(7, n=0), False, "published"),
        (7, entry(7), True, "published"),  # before its worker claims it
        (8, entry(9), True, "superseded"),
        (8, entry(9, "writing"), True, "superseded"),
        (8, entry(7, "rejected"), True, "rejected"),
        (8, entry(6), True, "rejected"),  # the older version stays
        (8, None, True, "rejected"),
        (8, entry(7, "writing"), True, "published"),  # a repair
    ],
)
def test_what_became_of_it(world: World, settled: int, there: Entry | None, visible: bool, state: str) -> None:
    world.settled, world.found, world.visible = settled, there, visible
    assert found(waiting_on()).state == state


def test_a_server_that_is_away_is_waited_for_and_no_index_is_not(world: World) -> None:
    world.error = AwayError("Kafka is away")
    assert found(waiting_on()) == Found(state="published", why="Kafka or Elasticsearch is away")
    world.error = NoIndexError("at an address")
    assert "log says why" in found(waiting_on(), 60).why


def test_a_stop_ends_every_wait_and_too_many_do_not_begin(world: World) -> None:
    async def run() -> None:
        stopping = asyncio.Event()
        made = waiting_on(2, stopping)
        world.settled = 0
        tasks = [asyncio.create_task(made.until_searchable("a", PLACE, 60)) for _ in range(3)]
        assert (await tasks[2]).why == "too many wait already"
        stopping.set()
        assert [(await task).state for task in tasks[:2]] == ["published"] * 2
        world.settled = 8

    asyncio.run(run())


def test_all_who_wait_share_one_look(world: World) -> None:
    async def run() -> None:
        made = waiting_on(100)
        await asyncio.gather(*(made.until_searchable("a", PLACE, 60) for _ in range(100)))

    asyncio.run(run())
    assert world.asked < 100

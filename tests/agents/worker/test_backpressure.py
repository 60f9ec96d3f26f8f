"""The byte budget: partitions pause above it, and whoever fetches is told when they go on."""

from types import SimpleNamespace

from faust.types import TP

from agents.indexing.budget import Budget
from agents.metrics import Metrics
from agents.worker.backpressure import Flow

PARTITIONS = [TP("documents", 0), TP("documents", 1)]


class FakeConsumer:
    """Remembers which partitions are paused."""

    def __init__(self) -> None:
        self.paused: set[TP] = set()

    def on_buffer_full(self, tp: TP) -> None:
        self.paused.add(tp)

    def on_buffer_drop(self, tp: TP) -> None:
        self.paused.discard(tp)


def record(offset: int, headers: tuple[tuple[str, bytes], ...] = ()) -> SimpleNamespace:
    return SimpleNamespace(
        topic="documents", partition=0, offset=offset, key=b"k", value=b"v" * 1000, headers=headers, tp=PARTITIONS[0]
    )


def test_fetching_stops_above_the_budget_and_goes_on_below_it() -> None:
    consumer, reachable = FakeConsumer(), True
    flow = Flow("documents", Budget(12_000), Metrics(), lambda: reachable)
    flow.fetched(consumer, record(1))
    assert flow.open.is_set()
    flow.fetched(consumer, record(2))
    flow.fetched(consumer, record(3))
    assert consumer.paused == {PARTITIONS[0]}
    assert not flow.open.is_set()
    flow.balance(consumer, PARTITIONS)
    assert consumer.paused == set(PARTITIONS)
    assert not flow.open.is_set()
    flow.budget.release(0, 1)
    flow.balance(consumer, PARTITIONS)
    assert flow.paused, "a little room is not enough"
    flow.budget.release(0, 2)
    reachable = False
    flow.balance(consumer, PARTITIONS)
    assert flow.paused, "nor is room while a target is away"
    reachable = True
    flow.balance(consumer, PARTITIONS)
    assert consumer.paused == set()
    assert flow.open.is_set()


def test_headers_are_held_and_counted() -> None:
    flow = Flow("documents", Budget(1_000_000), Metrics(), lambda: True)
    flow.fetched(FakeConsumer(), record(1, (("trace", b"x" * 900_000),)))
    assert flow.budget.used > 900_000
    assert not flow.open.is_set()

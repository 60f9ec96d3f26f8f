"""The figures in README and docs are the bench's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import capacity
from bench.capacity import Costs, Need, need
from bench.report import CAPACITY, MARKS, README, RESULTS, render


@pytest.mark.parametrize(("file", "table"), [(README, render), (CAPACITY, capacity.render)])
def test_tables_are_of_the_last_result(file: Path, table: Callable[[dict[str, Any]], str]) -> None:
    (found,) = MARKS.finditer(file.read_text())
    assert found[0] == found[1] + table(json.loads(RESULTS.read_text())) + found[2]


def test_capacity_is_computed_by_what_is_busiest() -> None:
    model = Costs(model=0.012, index=0.0003, broker=0.0001, loop=0.0006)
    assert need(1000, model) == Need(workers=7, partitions=14, brokers=3, data_nodes=3)  # 1000 x 5 x 0.012 / 0.6 / 16
    assert need(10_000, model).data_nodes == 4  # 10,000 x 5 x 0.0003 x 2 / 0.6 / 16
    assert need(100_000, model).brokers == 7
    fast = Costs(model=0.00001, index=0.0003, broker=0.0001, loop=0.0006)
    assert need(10_000, fast).workers == 10  # the event loop: 10,000 x 0.0006 / 0.6
    assert need(1, fast) == Need(workers=2, partitions=4, brokers=3, data_nodes=3)

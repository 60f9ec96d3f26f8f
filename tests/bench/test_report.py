"""The figures in README and docs are the bench's."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import capacity
from bench import run as bench_run
from bench.capacity import Costs, Need, need
from bench.report import CAPACITY, MARKS, README, RESULTS, render
from bench.rows import Row


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


@pytest.mark.parametrize(
    ("name", "cosine", "right"),
    [
        ("penstock_int8", 0.786, False),  # what went on, once
        ("ceiling_int8", 0.9907, True),
        ("penstock_bf16", 0.9995, True),
        ("ceiling_bf16", 0.998, False),
        ("penstock_fp32", 0.9995, False),
        ("quix", 0.9995, False),
        ("gpu_embedder", 0.9995, True),
    ],
)
def test_a_row_with_wrong_vectors_fails_the_run(
    name: str, cosine: float, right: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row = Row(name, rates=[1.0], cosines=[1.0, cosine])
    written = tmp_path / "latest.json"
    monkeypatch.setattr(bench_run, "RESULTS", written)
    monkeypatch.setattr(bench_run, "servers", lambda _: contextlib.nullcontext(None))
    monkeypatch.setattr(bench_run, "measure", lambda *_, **__: {"rows": [row.as_json()], "ratios": {}})
    monkeypatch.setattr("bench.report.main", lambda: None)
    monkeypatch.setattr("sys.argv", ["bench.run"])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with (
        contextlib.nullcontext()
        if right
        else pytest.raises(SystemExit, match=rf"{name}: least cosine to fp32 {cosine}")
    ):
        bench_run.main()
    assert written.exists() == right

"""What a worker says of its progress."""

from typing import Any

import pytest

from agents.worker.progress_log import ProgressLog


def rows(*partitions: tuple[int, int | None]) -> list[dict[str, Any]]:
    """Settled offset and lag, from partition 0 on."""
    return [
        {"partition": number, "settled_offset": settled, "lag": lag} for number, (settled, lag) in enumerate(partitions)
    ]


def test_a_line_a_minute_and_one_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    now = 0.0
    log = ProgressLog(lambda: now)

    def told(*partitions: tuple[int, int | None]) -> list[tuple[str, int | None, int | None]]:
        nonlocal now
        now += 20
        caplog.clear()
        log.tell(rows(*partitions))
        return [
            (record.message, getattr(record, "lag", None), getattr(record, "settled", None))
            for record in caplog.records
        ]

    assert told() == []
    assert told((0, None)) == [], "nothing is known"
    now = 0.0
    assert told((10, 90)) == []
    assert told((30, 70), (5, 100)) == []
    assert told((60, 40), (25, 80)) == [("working", 120, 70)]
    assert told((100, 0), (105, 0)) == [("caught up", 0, None)]
    assert told((101, 0), (105, 0)) == []
    assert told((101, 4), (105, 0)) == [], "a few at a time are nothing to talk of"
    assert told((105, 0), (105, 0)) == []
    for settled in (105, 106, 107):
        last = told((settled, 200), (105, 0))
    assert last == [("working", 200, 2)]
    assert told((307, 0), (105, 0)) == [("caught up", 0, None)]

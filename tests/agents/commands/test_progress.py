"""Progress where nobody sees a bar: in a log, or in a pipe."""

import time
from collections.abc import Callable

import pytest
from rich.progress import Progress

from agents.commands.run import progress
from tests.kit.harness import PATIENCE_S


@pytest.mark.parametrize(
    ("bar", "told"),
    [(progress.progress_bar, "reading: 10 of 40, 25%"), (progress.byte_progress, "reading: 10 bytes of 40 bytes, 25%")],
)
def test_lines_tell_how_far_it_is(
    bar: Callable[[], Progress], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    with bar() as shown:
        report = progress.reporter(shown)
        report("reading", 0, 40)
        report("reading", 10, 40)
        until, seen = time.monotonic() + PATIENCE_S, ""
        while told not in seen:
            seen += capsys.readouterr().err
            assert time.monotonic() < until, seen
        report("reading", 40, 40)
    assert "40/40" in capsys.readouterr().err, "and the last state, once"

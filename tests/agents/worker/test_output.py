"""Nobody has to read what a worker says, and nothing that holds its loop holds its partitions for ever."""

import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agents.worker import output
from agents.worker.loop_watch import LoopWatch
from agents.worker.output import Unhurried, never_wait


@contextmanager
def pipe() -> Iterator[tuple[int, Unhurried]]:
    """A pipe that nobody reads yet, and the stream into it."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as out:
        yield read, Unhurried(out)


def test_a_pipe_that_nobody_reads_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(output, "LINES", 500)
    monkeypatch.setattr(output, "LAST_S", 0.05)
    with pipe() as (read, stream):
        line = "x" * 999 + "\n"
        for _ in range(1000):
            stream.write(line)
        stream.finish()  # gives up
        taken = 0
        while not caplog.text:
            if select.select([read], [], [], 0.1)[0]:  # else it is about to say so
                taken += os.read(read, 1 << 16).count(b"\n")
        monkeypatch.setattr(output, "LAST_S", 60)
        stream.write("the last word\n")
        stream.finish()
        rest = os.read(read, 1 << 20)  # what was still in the pipe when it said so, too
        assert rest.endswith(b"the last word\n")
        taken += rest.count(b"\n") - 1
        os.close(read)
    assert 500 <= taken < 1000
    (record,) = caplog.records
    assert record.__dict__["lines"] >= 1000 - taken - 100


def test_a_closed_pipe_is_nobodys_error(caplog: pytest.LogCaptureFixture) -> None:
    with pipe() as (read, stream):
        os.close(read)
        for _ in range(3):
            stream.write("nobody is there\n")
        stream.finish()
        assert not stream.isatty()
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what the pipe did not take goes there at the end
    assert not caplog.records


def test_it_is_put_before_stderr_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    never_wait()
    first = sys.stderr
    never_wait()
    assert isinstance(first, Unhurried)
    assert sys.stderr is first


def test_a_loop_that_stands_still_is_ended_and_says_where() -> None:
    ended, told = threading.Event(), list[str]()

    def end(why: str) -> None:
        told.append(why)
        ended.set()

    watch = LoopWatch(0.3, end, every_s=0.01)
    watch.start()
    for _ in range(50):
        time.sleep(0.01)
        watch.tick()
    assert not told
    assert ended.wait(60)
    assert "stood still" in told[0]
    assert "ended.wait" in told[0]

"""What `penstock ingest … --watch` says of its passes: what is new in each, and nothing of one that changed nothing."""

import json

import pytest

from agents.commands.run.watch import Teller
from agents.settings import Settings
from agents.sources import Failure
from agents.sources.collecting import Summary
from agents.sources.session import MissedError
from tests.agents.sources.test_run import MemorySource

BAD = Failure(origin="bad.txt", reason="no text")


def test_only_what_is_new_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    tell, source = Teller(Settings(), as_json=False), MemorySource({})

    def said(summary: Summary) -> tuple[int, int]:
        tell(source, summary)
        told = capsys.readouterr()
        return len(told.out.splitlines()), len(told.err.splitlines())

    assert said(Summary(published=2, changed=2)) == (1, 0)
    assert said(Summary(unchanged=2)) == (0, 0)
    assert said(Summary(unchanged=2, failed=1, failures=[BAD])) == (0, 1)
    assert said(Summary(unchanged=2, failed=1, failures=[BAD])) == (0, 0)
    assert said(Summary(unchanged=2, gone=3, refused=["3 of 5 are gone"])) == (1, 1)
    assert said(Summary(unchanged=2, gone=3, refused=["3 of 5 are gone"])) == (0, 0)
    assert said(Summary(unchanged=2, failed=30, failures=[Failure(origin=str(n), reason="") for n in range(30)])) == (
        1,
        21,
    )


def test_programs_get_a_line_for_each_pass(capsys: pytest.CaptureFixture[str]) -> None:
    tell, source = Teller(Settings(), as_json=True), MemorySource({})
    tell(source, Summary(unchanged=2))
    tell(source, MissedError("gone"))
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["source"], first["objects"]["unchanged"], second["error"]) == ("memory:/", 2, "gone")

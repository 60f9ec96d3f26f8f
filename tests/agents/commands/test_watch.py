"""What `penstock ingest … --watch` says of its passes: what is new in each, and nothing of one that changed nothing."""

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import ClientSession
from click.testing import CliRunner

from agents.commands.ingest import ingest
from agents.commands.run.metrics_port import metrics_served
from agents.commands.run.watch import Teller
from agents.settings import Settings
from agents.sources import Failure
from agents.sources.collecting import Summary
from agents.sources.metrics import Metrics
from agents.sources.session import MissedError
from streams.errors import ConfigError, PenstockError, RefusedError
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
    assert said(Summary(unchanged=2, gone=3, refused=[RefusedError("3 of 5 are gone")])) == (1, 1)
    assert said(Summary(unchanged=2, gone=3, refused=[RefusedError("3 of 5 are gone")])) == (0, 0)
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


def test_metrics_are_served_meanwhile_and_a_port_that_is_taken_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        metrics = Metrics(["s"])
        metrics.passed("s", Summary(published=3))
        async with metrics_served(Settings(), None, metrics):
            assert capsys.readouterr().err == ""
        async with metrics_served(Settings(), 0, metrics), ClientSession() as client:
            port = int(capsys.readouterr().err.split()[2])
            async with client.get(f"http://127.0.0.1:{port}/metrics") as answer:
                text = await answer.text()
            assert 'penstock_source_objects_total{outcome="published",source="s"} 3.0' in text
            with pytest.raises(PenstockError, match=rf"port {port} on 127.0.0.1 cannot be used.* set --metrics-port"):
                async with metrics_served(Settings(), port, metrics):
                    pass

    asyncio.run(scenario())


def test_a_run_that_ends_has_no_metrics(tmp_path: Path) -> None:
    done = CliRunner().invoke(ingest, ["files", str(tmp_path), "--metrics-port", "0"])
    assert isinstance(done.exception, ConfigError)
    assert "give it --watch SECONDS, or --events TOPIC" in str(done.exception)

"""The pipeline: ranges, scattered, each through one function. Beam brings engines, retries and counting; nothing else.

What an engine repeats, or runs twice at a time, changes nothing: every write goes through the planner.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState

from agents.beam.child import GO_ON
from agents.beam.session import Job, acquire, release
from streams.errors import PenstockError

NAMESPACE = "penstock"
MOST_TOLD = 2000
OURS = re.compile(r"streams\.errors\.\w+: (.+?)(?: \[while running|$)", re.MULTILINE)


class TakeRanges(beam.DoFn):  # type: ignore[misc]  # Beam is untyped here
    """A range through all stages. One session a process, however many of these it has."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def setup(self) -> None:
        """Blocks for seconds: models are loaded."""
        self._session = acquire(self._job)

    def process(self, part: Any) -> Iterable[Any]:
        """Blocks until everything in the range is settled. May happen twice, and at the same time."""
        for name, count in self._session.run(part).items():
            Metrics.counter(NAMESPACE, name).inc(count)
        return ()

    def teardown(self) -> None:
        """Whoever is the last one lets the models go."""
        release(self._job)


def run(job: Job, parts: Sequence[object], options: Sequence[str]) -> Counter[str]:
    """Returns what was counted, each range once however often it was tried. `options`: Beam's own.

    Raises PenstockError where the engine gave up, with the reason if it is ours.
    """
    try:
        pipeline = beam.Pipeline(options=PipelineOptions(list(options)))
        _ = pipeline | "Ranges" >> beam.Create(parts) | beam.Reshuffle() | "Index" >> beam.ParDo(TakeRanges(job))
        result = pipeline.run()
        state = result.wait_until_finish()
    except PenstockError:
        raise
    except Exception as exc:
        raise failed(str(exc)) from exc
    if state != PipelineState.DONE:
        raise failed(f"the engine ended with {state}")
    counted = Counter[str]()
    for row in result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]:
        counted[row.key.metric.name] += row.result
    return counted


def failed(told: str) -> PenstockError:
    """What an engine says of an error of ours is a traceback, with the error at its end."""
    reasons = OURS.findall(told)
    reason = reasons[-1] if reasons else f"the batch failed: {told.strip()[-MOST_TOLD:]}"
    return PenstockError(f"{reason}; {GO_ON}")

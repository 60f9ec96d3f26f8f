"""One summary for the whole run, printed at its end and kept as JSON beside the benchmark's."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).parents[2] / "bench" / "results" / "chaos.json"
SUMMARY: dict[str, Any] = {}


@pytest.fixture(scope="session")
def summary() -> dict[str, Any]:
    """Figures of this run, by name."""
    return SUMMARY


@pytest.fixture(scope="session")
def minutes() -> float:
    """How long the kills go on: `make chaos MINUTES=20`."""
    return float(os.environ.get("MINUTES") or 20)


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int) -> None:
    """Print it, and keep it when all went well."""
    terminalreporter.section("chaos")
    for name, value in SUMMARY.items():
        terminalreporter.write_line(f"{name:40} {value}")
    if exitstatus == 0:
        kept = {"machine": platform.platform(), "at": datetime.now(UTC).isoformat(timespec="seconds"), **SUMMARY}
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n")

"""One summary for the whole run, printed at its end."""

import os
from typing import Any

import pytest

from tests.kit import shared
from tests.stack.conftest import quick_model as quick_model
from tests.stack.conftest import two_on_8 as two_on_8
from tests.stack.conftest import two_real as two_real

SUMMARY: dict[str, Any] = {}
collect_ignore = [] if os.environ.get("SOAK") else ["test_soak.py"]  # `make soak`


@pytest.fixture(scope="session")
def summary() -> dict[str, Any]:
    """Figures of this run, by name."""
    return SUMMARY


@pytest.fixture(scope="session")
def minutes() -> float:
    """How long the kills go on: `make chaos MINUTES=20`."""
    return float(os.environ.get("MINUTES") or 20)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In one of several processes: hand it to the one that prints."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["summary"] = {name: str(value) for name, value in SUMMARY.items()}


def pytest_testnodedown(node: Any) -> None:
    """In the one that prints."""
    SUMMARY.update(getattr(node, "workeroutput", {}).get("summary", {}))


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int) -> None:
    """Print it. Of a run that failed the servers' logs stay: it may have been theirs."""
    terminalreporter.section("chaos")
    for name, value in SUMMARY.items():
        terminalreporter.write_line(f"{name:40} {value}")
    if exitstatus:
        terminalreporter.write_line(f"the servers' logs: {shared.keep_logs()}")

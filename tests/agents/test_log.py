"""What is logged, by level: never a document's text or a secret, at debug neither."""

import logging
from collections.abc import Iterator
from pathlib import Path

import aiokafka
import elastic_transport
import faust
import mode
import pytest

from agents.commands.common import tell_warnings
from agents.log import CRASH, DEBUGGED, NOISY, OWN, setup_logging
from agents.settings import Settings
from agents.settings.sections import LogSettings


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    names = [None, *OWN, *NOISY, *DEBUGGED]
    before = {name: logging.getLogger(name).level for name in names}
    handlers = logging.root.handlers[:]
    yield
    logging.root.handlers[:] = handlers
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_debug_is_for_our_own_lines_and_those_that_carry_no_payload() -> None:
    setup_logging(LogSettings(level="debug"))
    for package in (aiokafka, elastic_transport, faust, mode):
        root = Path(package.__file__ or "").parent
        modules = {".".join(path.relative_to(root.parent).with_suffix("").parts) for path in root.rglob("*.py")}
        names = modules | {"elastic_transport.node", "elastic_transport.transport"}
        debugged = {name for name in names if logging.getLogger(name).isEnabledFor(logging.DEBUG)}
        assert debugged <= set(DEBUGGED)
        assert logging.getLogger(package.__name__).isEnabledFor(logging.INFO)
    for name in ("agents.worker.app", "streams.plan", "models.onnx.session"):
        assert logging.getLogger(name).isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("a.library.of.tomorrow").isEnabledFor(logging.DEBUG)


def test_info_leaves_the_libraries_out() -> None:
    setup_logging(LogSettings(level="debug"))
    setup_logging(LogSettings())
    assert logging.getLogger("agents.worker.app").isEnabledFor(logging.INFO)
    assert not logging.getLogger("agents.worker.app").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger(DEBUGGED[0]).isEnabledFor(logging.INFO)
    assert not logging.getLogger("elastic_transport.transport").isEnabledFor(logging.WARNING)


def test_a_refusal_is_no_crash_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(LogSettings())
    app = faust.App("refused", broker="memory://")
    faust.Worker(app).log.critical(CRASH)
    faust.Worker(app).log.critical("something else")
    assert "something else" in (said := capsys.readouterr().err)
    assert "experienced a crash" not in said


def test_a_warning_inside_a_command_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    logging.root.handlers[:] = []
    tell_warnings(Settings())
    logging.getLogger("aiokafka").error("Unable connect")
    logging.getLogger("elastic_transport.node_pool").warning("Node <Node()> has failed")  # before levels are set
    logging.getLogger("agents.kafka.dead_letters").warning("record dead-lettered", extra={"offset": 17})
    logging.getLogger("aiokafka").error("Unable connect")
    logging.getLogger("agents.indexing.preflight").info("what merely happens")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "record dead-lettered" in said[0]
    assert "offset=17" in said[0]

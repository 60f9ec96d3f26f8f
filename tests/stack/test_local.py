"""`penstock local`: side by side, by a plain user, and nothing left behind."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import psutil
import pytest

from agents.local import stack
from agents.local.downloads import Artifact, fetch, locked
from agents.local.servers import free_port
from agents.settings.environment import cache_dir
from streams.errors import PenstockError


def test_a_server_that_dies_says_why_and_where_its_log_is(tmp_path: Path) -> None:
    options = stack.StackOptions(
        folder=tmp_path,
        cache=cache_dir(),
        kafka_port=free_port(),
        elasticsearch_port=free_port(),
        kafka_version="4.1.1",
        elasticsearch_version="9.2.4",
    )
    (tmp_path / "kafka" / "data").mkdir(parents=True)
    (tmp_path / "kafka" / "data" / "meta.properties").write_text("broken")
    with pytest.raises(PenstockError, match=r"(?s)kafka ended at once.*kafka/server\.log") as caught:
        stack.up(options, lambda *_: None)
    assert "node ID not found" in str(caught.value)
    assert stack.status(tmp_path) == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # servers outlive the objects that started them
        del caught
        gc.collect()


def test_a_reused_pid_is_never_touched(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        server = {"name": "kafka", "version": "4.1.1", "port": 1, "pid": stranger.pid, "started_at": 1.0, "log": "x"}
        (tmp_path / "state.json").write_text(json.dumps([server]))
        assert stack.down(tmp_path) == []
        time.sleep(0)
        assert stranger.poll() is None
        os.kill(stranger.pid, signal.SIGKILL)


def test_who_listens_at_a_port_is_not_taken_for_ones_own_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack whose start was ended goes on to start, and another one was quicker to take its port."""
    ports = [free_port(), free_port()]
    options = stack.StackOptions(
        folder=tmp_path,
        cache=cache_dir(),
        kafka_port=ports[0],
        elasticsearch_port=ports[1],
        kafka_version="4.1.1",
        elasticsearch_version="9.2.4",
    )

    def start(*command: object) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(list(map(str, command)), start_new_session=True, stderr=subprocess.DEVNULL)

    def note(*processes: "subprocess.Popen[bytes]") -> None:
        log, rows = tmp_path / "server.log", []
        log.write_text("bind failed")
        names = (("kafka", "4.1.1"), ("elasticsearch", "9.2.4"))
        for (name, version), port, process in zip(names, ports, processes, strict=True):
            row = {"name": name, "version": version, "port": port, "pid": process.pid, "log": str(log)}
            rows.append(row | {"started_at": psutil.Process(process.pid).create_time()})
        (tmp_path / stack.STATE).write_text(json.dumps(rows))

    serve = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1")
    idle, *serving = start("sleep", 600), *(start(*serve, port) for port in ports)
    try:
        note(*serving)
        assert stack.up(options, lambda *_: None) == {"kafka": 0.0, "elasticsearch": 0.0}
        note(serving[0], idle)
        monkeypatch.setattr(stack, "START_TIMEOUT_S", 1)
        with pytest.raises(PenstockError, match=f"(?s)elasticsearch did not answer on port {ports[1]}.*bind failed"):
            stack.up(options, lambda *_: None)
    finally:
        for process in (idle, *serving):
            process.kill()
            process.wait()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_unknown_version_and_a_download_that_is_not_what_is_locked(tmp_path: Path) -> None:
    with pytest.raises(
        PenstockError, match=r"elasticsearch 7\.0 is not available here; choose one of 9\.2\.4, 8\.19\.3"
    ):
        locked("elasticsearch", "7.0")
    right = next(artifact for artifact in locked("kafka", "4.1.1") if "slf4j-api" in artifact.coordinate)
    wrong = Artifact(coordinate=right.coordinate, sha256="0" * 64, bytes=right.bytes)
    with pytest.raises(PenstockError, match="is not the locked file"):
        fetch([wrong], tmp_path, lambda *_: None)
    assert list((tmp_path / "artifacts").iterdir()) == []
    missing = Artifact(coordinate="org.slf4j:slf4j-api:0.0.0:jar", sha256="0" * 64, bytes=1)
    with pytest.raises(PenstockError, match="could not be downloaded from Maven Central"):
        fetch([missing], tmp_path, lambda *_: None)
    gc.collect()  # jgo leaves the connection of a refused download open: let it warn here and nowhere else
    seen: list[tuple[str, int, int]] = []
    (path,) = fetch([right], tmp_path, lambda *step: seen.append(step))
    assert path.stat().st_size == right.bytes
    assert seen == [(right.file_name, right.bytes, right.bytes)]

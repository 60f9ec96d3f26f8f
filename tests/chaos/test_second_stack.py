"""`penstock local` beside another stack, for somebody who is not root."""

import json
import os
import subprocess
from pathlib import Path

import psutil

from agents.local.servers import free_port
from tests.kit.harness import PENSTOCK, Servers

AS_A_PLAIN_USER: list[str] = [] if os.geteuid() else ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
"""In a user namespace where root is uid 1000: nothing may depend on being root, who starts the other stacks."""


def penstock(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command: list[str | Path] = [*AS_A_PLAIN_USER, PENSTOCK, "local", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def test_a_plain_user_has_a_second_stack_and_nothing_is_left_behind(servers: Servers, tmp_path: Path) -> None:
    who = subprocess.run([*AS_A_PLAIN_USER, "id", "-u"], capture_output=True, text=True, check=True)
    assert who.stdout != "0\n"
    where = ["--dir", str(tmp_path / "second")]
    ports = ["--kafka-port", str(free_port()), "--elasticsearch-port", str(free_port())]
    up = penstock("up", *where, *ports)
    try:
        assert up.returncode == 0, up.stderr
        assert up.stdout.count("started in") == 2
        assert penstock("up", *where, *ports).stdout.count("was running") == 2
        rows = json.loads(penstock("status", *where, "--json").stdout)
        assert {row["name"] for row in rows} == {"kafka", "elasticsearch"}
        groups = [row["pid"] for row in rows]
        busy = penstock("up", *where, "--kafka-port", str(servers.kafka_port), *ports[2:])
        assert busy.returncode == 1
        assert "already runs" in busy.stderr
        listening = {
            connection.laddr.ip
            for row in rows
            for process in _group(row["pid"])
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    finally:
        down = penstock("down", *where)
    assert down.stdout == "stopped kafka and elasticsearch\n"
    assert [process for group in groups for process in _group(group)] == []
    assert penstock("down", *where).stdout == f"nothing was running in {tmp_path / 'second'}\n"
    assert penstock("wipe", "--yes", *where).returncode == 0
    assert not (tmp_path / "second").exists()


def _group(leader: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found

"""A real Prometheus under test: from Debian's package, unpacked into the cache, on a free port, with faster clocks."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.local.servers import free_port

OPS = Path(__file__).parents[2] / "ops"
RULES = OPS / "prometheus" / "rules.yml"
DASHBOARD = OPS / "grafana" / "penstock.json"
FASTER = 60
"""A minute of the rules is a second under test."""


def binaries(cache: Path) -> Path:
    """Folder of `prometheus` and `promtool`. Skips the test where Debian's package cannot be had."""
    if found := shutil.which("promtool"):
        return Path(found).parent
    folder = cache / "prometheus"
    if not (folder / "usr" / "bin" / "promtool").exists():
        with tempfile.TemporaryDirectory() as scratch:
            if not _download(scratch):
                if os.environ.get("CI"):
                    raise AssertionError("CI needs Debian's package prometheus")
                pytest.skip("promtool is not here: install Debian's package prometheus")
            (package,) = Path(scratch).glob("prometheus_*.deb")
            subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    return folder / "usr" / "bin"


def _download(folder: str) -> bool:
    if not shutil.which("apt-get"):
        return False
    command = ["apt-get", "download", "--quiet", "prometheus"]
    for attempt in range(2):
        if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0:
            return True
        if attempt == 0:
            subprocess.run(["apt-get", "update", "--quiet"], capture_output=True, check=False)
    return False


def faster(rules: str, factor: int = FASTER) -> str:
    """The rules with every window and wait divided."""

    def shorter(found: re.Match[str]) -> str:
        number, unit = (found[1] or found[3]), (found[2] or found[4])
        seconds = int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
        return f"{max(1, seconds // factor)}s"

    return re.sub(r"(?<=[\[:])(\d+)([smhd])(?=[\]:])|(?:(?<=for: )|(?<=offset ))(\d+)([smhd])\b", shorter, rules)


class Prometheus:
    """Scrapes workers once a second and evaluates the rules as often. Stopped by `close`."""

    def __init__(self, cache: Path, folder: Path, rules: str) -> None:
        self.port = free_port()
        self._targets = folder / "targets.json"
        (folder / "rules.yml").write_text(rules)
        self.scrape([])
        (folder / "prometheus.yml").write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": ["rules.yml"],
                    "scrape_configs": [
                        {
                            "job_name": "penstock",
                            "file_sd_configs": [{"files": [str(self._targets)], "refresh_interval": "1s"}],
                        }
                    ],
                }
            )
        )
        with (folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    binaries(cache) / "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--log.level=warn",
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while not self._ready():
            assert time.monotonic() < deadline, (folder / "prometheus.log").read_text()
            time.sleep(0.1)

    def close(self) -> None:
        """SIGTERM, and wait."""
        self._process.terminate()
        self._process.wait(20)

    def scrape(self, ports: Iterable[int]) -> None:
        """The workers to watch, by admin port."""
        new = self._targets.with_suffix(".new")
        new.write_text(json.dumps([{"targets": [f"127.0.0.1:{port}" for port in ports]}]))
        new.rename(self._targets)

    def query(self, expression: str) -> list[Any]:
        """Rows of an instant query; fails when Prometheus refuses it."""
        found: list[Any] = self._get("query", {"query": expression})["result"]
        return found

    def firing(self, label: str = "alertname", name: str = "") -> set[str]:
        """Names of the alerts that fire now; or what another label of the one of this name says."""
        labels = [alert["labels"] for alert in self._get("alerts")["alerts"] if alert["state"] == "firing"]
        return {one[label] for one in labels if name in ("", one["alertname"])}

    def _get(self, path: str, parameters: dict[str, str] | None = None) -> Any:
        query = urllib.parse.urlencode(parameters or {})
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def alerts() -> list[dict[str, Any]]:
    """All of `ops/prometheus/rules.yml`."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def queries() -> dict[str, str]:
    """Of the dashboard, by panel, what Grafana fills in filled in; and those by which KEDA scales, of any topic."""
    scaled = yaml.safe_load((OPS / "kubernetes" / "scaledobject.yaml").read_text())["spec"]["triggers"]
    found = {
        f"KEDA: {number}": re.sub(r'(topic|group)="\w+"', r'\1=~".*"', trigger["metadata"]["query"])
        for number, trigger in enumerate(scaled)
    }
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            text = target["expr"].replace("$topic", ".*").replace("$group", ".*").replace("$__rate_interval", "10s")
            found[f"{panel['title']}: {target['refId']}"] = text
    return found

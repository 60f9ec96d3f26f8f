"""Alerts, dashboard and scaling as files: what they ask for, and where they lead."""

import json
import re
import subprocess

import yaml
from prometheus_client import Metric

from agents.metrics import Metrics
from agents.settings.environment import cache_dir
from agents.sources.metrics import Metrics as SourceMetrics
from tests.kit.prometheus import DASHBOARD, OPS, RULES, alerts, binaries, queries

RUNBOOK = OPS.parent / "runbook.md"


def test_the_rules_pass_promtool() -> None:
    promtool = binaries(cache_dir()) / "promtool"
    for command in (
        ["check", "rules", "rules.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "rules_test.yml"],
    ):
        done = subprocess.run([promtool, *command], cwd=RULES.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    tested = set(re.findall(r"alertname: (\w+)", (RULES.parent / "rules_test.yml").read_text()))
    assert tested == {alert["alert"] for alert in alerts()}


def test_every_panel_shows_only_what_was_chosen() -> None:
    """By topic and group: through the metric's own labels, or through whose the worker is."""
    dashboard = json.loads(DASHBOARD.read_text())
    assert {"topic", "group"} <= {variable["name"] for variable in dashboard["templating"]["list"]}
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            metrics = len(re.findall(r"penstock_(?!worker_info)\w+", target["expr"]))
            for chosen in ('topic=~"$topic"', 'group=~"$group"'):
                assert target["expr"].count(chosen) == metrics, panel["title"]


def test_every_alert_leads_to_a_section_of_the_runbook() -> None:
    titles = re.findall(r"^## (.*)$", RUNBOOK.read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    for alert in alerts():
        link, anchor = alert["annotations"]["runbook_url"].split("#")
        assert (link, anchor in anchors) == ('{{ or $externalLabels.runbook "runbook.md" }}', True), alert["alert"]
        assert alert["labels"]["severity"] in ("page", "ticket")
    for file in ("prometheus.yml", "compose.yml"):  # and the link is absolute
        labels = yaml.safe_load((RULES.parent / file).read_text())["global"]["external_labels"]
        assert re.fullmatch(r"https://.*/runbook\.md", labels["runbook"])


def test_jobs_have_the_name_that_the_alert_goes_by() -> None:
    (alert,) = (alert for alert in alerts() if alert["alert"] == "PenstockWorkerDown")
    (name,) = re.findall(r'job="(.*?)"', alert["expr"])
    for file in ("prometheus.yml", "compose.yml"):
        assert [job["job_name"] for job in yaml.safe_load((RULES.parent / file).read_text())["scrape_configs"]] == [
            name
        ]
    monitor = yaml.safe_load((OPS / "kubernetes" / "podmonitor.yaml").read_text())["spec"]
    pods = yaml.safe_load((OPS / "kubernetes" / "deployment.yaml").read_text())["spec"]["template"]
    assert pods["metadata"]["labels"][monitor["jobLabel"]] == name  # without it: NAMESPACE/NAME of the monitor


def test_alerts_panels_and_scaling_ask_for_metrics_that_there_are() -> None:
    """By name; that each fires, or shows something, is seen on a real Prometheus in `make chaos`."""
    families = [*Metrics().registry.collect(), *SourceMetrics(["s"]).registry.collect()]
    ours = {name for family in families for name in (family.name, *sampled(family))}
    for what in (*queries().values(), *(alert["expr"] for alert in alerts())):
        assert set(re.findall(r"penstock_\w+", what)) <= ours, what


def sampled(family: Metric) -> list[str]:
    """Names under which a metric of this kind is scraped."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    return [family.name + suffix for suffix in suffixes.get(family.type, [])]
